//! What several tests share: goldens, comparisons that NaN fails, attention in f64, files of PyTorch.

pub mod attention;
pub mod batch;
pub mod compare;
pub mod dropout;
pub mod executor;
pub mod golden;
pub mod interop;
pub mod scalar;
pub mod torch_file;
