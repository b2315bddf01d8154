//! tract operators over the sparse kernels.
