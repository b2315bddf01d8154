//! tract's own CPU runtime behind our transforms: `cpu-sparse` behind `sparsify`, `cpu-sparse-half` behind
//! `sparsify_half`, `cpu-planar` behind `planar`.

use crate::policy::{Mode, Policy, Precision};
use crate::transform::sparsify;
use tract_core::internal::*;
use tract_core::runtime::{DefaultRuntime, Runnable, Runtime};

/// A runtime; its mode and precision are those of the knobs unless it has some of its own.
#[derive(Debug)]
struct CpuSparse {
    name: &'static str,
    mode: Option<Mode>,
    precision: Option<Precision>,
}

impl Runtime for CpuSparse {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    fn prepare_with_options(
        &self,
        model: TypedModel,
        options: &RunOptions,
    ) -> TractResult<Box<dyn Runnable>> {
        let mut policy = Policy::from_knobs()?;
        policy.mode = self.mode.unwrap_or(policy.mode);
        policy.precision = self.precision.unwrap_or(policy.precision);
        let mut model = model.into_decluttered()?;
        sparsify(&mut model, &policy)?;
        DefaultRuntime.prepare_with_options(model, options)
    }

    fn check(&self) -> TractResult<()> {
        Ok(())
    }
}

tract_core::register_runtime!(CpuSparse = CpuSparse { name: "cpu-sparse", mode: None, precision: None });

/// The macro makes a constant of a fixed name: one module for each runtime.
mod planar {
    use super::*;

    tract_core::register_runtime!(
        CpuSparse = CpuSparse { name: "cpu-planar", mode: Some(Mode::Dense), precision: None }
    );
}

/// As above.
mod half {
    use super::*;

    tract_core::register_runtime!(
        CpuSparse = CpuSparse { name: "cpu-sparse-half", mode: None, precision: Some(Precision::Half) }
    );
}
