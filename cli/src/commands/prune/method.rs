//! `prune --method`: the ways of choosing and correcting weights.

use super::Judge;
use super::samples::Samples;
use anyhow::Result;
use figures::Progress;
use prune::calibrate::{Calibration, Error, Obc, Wanda, compare, output_error, sequential};
use prune::{L1, Method, Plan, Report, Tract};
use tract_onnx::pb::ModelProto;

/// Prunes `model`; also tells what every method does to the outputs of inputs that are held out, where there
/// are some.
pub(super) fn apply(
    judge: Judge,
    model: &mut ModelProto,
    plan: &Plan,
    samples: &Samples,
    progress: &Progress,
) -> Result<(Report, Option<Vec<Error>>)> {
    if samples.seen.is_empty() {
        return Ok((plan.apply(model, &L1)?, None));
    }
    let calibration = Calibration::collect(model, plan, &Tract, &samples.seen)?;
    let (wanda, obc) = (Wanda(&calibration), Obc(&calibration));
    let compared = !samples.held_out.is_empty();
    let mut errors = None;
    if compared {
        let methods: [(&str, &dyn Method); 3] = [("l1", &L1), ("wanda", &wanda), ("obc", &obc)];
        errors = Some(compare(model, plan, &methods, &Tract, &samples.held_out)?);
    }
    let dense = (compared && judge == Judge::Obc).then(|| model.clone());
    let report = match judge {
        Judge::L1 => plan.apply(model, &L1)?,
        Judge::Wanda => plan.apply(model, &wanda)?,
        // layer by layer, which loses least
        Judge::Obc => {
            let mut say = |layer, all| progress.say(&format!("pruning layer {layer} of {all}"));
            sequential(model, plan, &Tract, &samples.seen, &mut say)?
        }
    };
    if let (Some(errors), Some(dense)) = (&mut errors, dense) {
        let (error, agreement) = output_error(&dense, model, &Tract, &samples.held_out)?;
        errors.push(Error { method: "obc, layer by layer".into(), error, agreement });
    }
    Ok((report, errors))
}
