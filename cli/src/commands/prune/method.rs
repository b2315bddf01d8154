//! `prune --method`: the ways of choosing and correcting weights.

use super::Judge;
use super::samples::Samples;
use anyhow::Result;
use figures::Progress;
use prune::calibrate::{Calibration, Error, Obc, Wanda, compare, output_error, sequential};
use prune::checkpoint::{Checkpoint, Reader, Record, Steps};
use prune::{L1, Method, Plan, Report, Tract};
use tract_onnx::pb::ModelProto;

/// What is kept under this name: the methods and their errors.
const STAGE: &str = "held out";

/// Prunes `model`; also tells what every method does to the outputs of inputs that are held out, where there
/// are some. What is in `kept` is not computed again.
pub(super) fn apply(
    judge: Judge,
    model: &mut ModelProto,
    plan: &Plan,
    samples: &Samples,
    progress: &Progress,
    kept: &mut Checkpoint,
) -> Result<(Report, Option<Vec<Error>>)> {
    if samples.seen.is_empty() {
        return Ok((plan.apply(model, &L1)?, None));
    }
    let compared = !samples.held_out.is_empty();
    let mut errors = kept.get(STAGE).and_then(read).filter(|_| compared);
    if errors.is_some() {
        kept.resume("errors on inputs that are held out".into());
    }
    let mut calibration = None;
    if judge == Judge::Wanda || (compared && errors.is_none()) {
        progress.say("looking at activations");
        calibration = Some(Calibration::collect(model, plan, &Tract, &samples.seen)?);
    }
    if let Some(calibration) = calibration.as_ref().filter(|_| compared && errors.is_none()) {
        progress.say("comparing methods on inputs that are held out");
        let (wanda, obc) = (Wanda(calibration), Obc(calibration));
        let methods: [(&str, &dyn Method); 3] = [("l1", &L1), ("wanda", &wanda), ("obc", &obc)];
        let found = compare(model, plan, &methods, &Tract, &samples.held_out)?;
        kept.put(STAGE, || record(&found));
        errors = Some(found);
    }
    let dense = (compared && judge == Judge::Obc).then(|| model.clone());
    let report = match (judge, &calibration) {
        (Judge::Wanda, Some(calibration)) => plan.apply(model, &Wanda(calibration))?,
        // layer by layer, which loses least
        (Judge::Obc, _) => {
            let mut say = |layer, all| progress.say(&format!("pruning layer {} of {all}", layer + 1));
            sequential(model, plan, &Tract, &samples.seen, &mut Steps { say: &mut say, kept })?
        }
        _ => plan.apply(model, &L1)?,
    };
    if let (Some(errors), Some(dense)) = (&mut errors, dense) {
        let (error, agreement) = output_error(&dense, model, &Tract, &samples.held_out)?;
        errors.push(Error { method: "obc, layer by layer".into(), error, agreement });
    }
    Ok((report, errors))
}

fn record(errors: &[Error]) -> Record {
    let mut record = Record::default();
    record.count(errors.len());
    for error in errors {
        record.text(&error.method);
        record.number(error.error);
        record.number(error.agreement);
    }
    record
}

fn read(mut reader: Reader) -> Option<Vec<Error>> {
    let count = reader.count()?;
    let mut error =
        || Some(Error { method: reader.text()?, error: reader.number()?, agreement: reader.number()? });
    (0..count).map(|_| error()).collect()
}
