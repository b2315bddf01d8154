//! What measurements are made and told with: models timed in turn, tensors compared, charts, progress on a
//! terminal. The command line, the benches and the tests of whole models share it.

mod agreement;
mod models;
mod progress;
pub mod svg;
mod timing;

pub use agreement::{Agreement, TOLERANCE, nudged};
pub use models::models_dir;
pub use progress::Progress;
pub use timing::{Ratio, Timing, in_turn, keep_freed_memory, quantile};
