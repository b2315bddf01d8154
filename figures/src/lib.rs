//! What measurements are made and told with: models timed in turn, tensors compared, charts, progress on a
//! terminal. The command line, the benches and the tests of whole models share it; without the feature `timing`
//! it compares tensors, which is all that `prune` asks for.

mod agreement;
mod models;
#[cfg(feature = "timing")]
mod progress;
pub mod svg;
#[cfg(feature = "timing")]
mod timing;

pub use agreement::{Agreement, HALF_TOLERANCE, TOLERANCE, nudged, top_1};
pub use models::models_dir;
#[cfg(feature = "timing")]
pub use progress::Progress;
#[cfg(feature = "timing")]
pub use timing::{Ratio, Timing, in_turn, keep_freed_memory, quantile};
