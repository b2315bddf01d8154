//! Built-in networks with seeded random weights, written as ONNX.
