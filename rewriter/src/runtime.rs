//! `cpu-sparse`: tract's own CPU runtime, behind the `sparsify` transform.

use crate::policy::Policy;
use crate::transform::sparsify;
use tract_core::internal::*;
use tract_core::runtime::{DefaultRuntime, Runnable, Runtime};

#[derive(Debug)]
struct CpuSparse;

impl Runtime for CpuSparse {
    fn name(&self) -> StaticName {
        "cpu-sparse".into()
    }

    fn prepare_with_options(
        &self,
        model: TypedModel,
        options: &RunOptions,
    ) -> TractResult<Box<dyn Runnable>> {
        let mut model = model.into_decluttered()?;
        sparsify(&mut model, &Policy::from_knobs()?)?;
        DefaultRuntime.prepare_with_options(model, options)
    }

    fn check(&self) -> TractResult<()> {
        Ok(())
    }
}

tract_core::register_runtime!(CpuSparse = CpuSparse);
