"""Training experiments: what sparsity costs in accuracy, and what it brings in time."""
