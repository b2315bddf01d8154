//! which layers of a tract model are worth running sparse, and the swap.
