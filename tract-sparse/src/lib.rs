//! Drop-in for tract-onnx: pruned networks that run faster.
