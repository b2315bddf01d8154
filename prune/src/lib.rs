//! Makes the weights of ONNX networks sparse.
