//! Makes the weights of ONNX networks sparse, in structures that run faster: kernel-group pruning after SparseByteNN, and
//! the reading and writing of models. Knows ONNX's protobuf and what the kernels want; knows no runtime.

pub mod file;
pub mod groups;
pub mod onnx;

pub use onnx::{Document, densify};
