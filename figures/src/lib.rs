//! What measurements are made and told with: models timed in turn, tensors compared, charts, progress on a terminal. The
//! command line and the benches share it.

mod agreement;
mod progress;
pub mod svg;
mod timing;

pub use agreement::{Agreement, nudged};
pub use progress::Progress;
pub use timing::{Ratio, Timing, in_turn, keep_freed_memory, quantile};
