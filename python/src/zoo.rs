//! `zoo`: built-in networks.

use crate::errors::{raised, wrong};
use crate::work::watched;
use ::zoo::{Batch, Network, Spec, Zeros};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::path::PathBuf;

/// Makes a built-in network with seeded random weights.
///
/// network: "mobilenet-v1", "mobilenet-v2", "mobilenet-v3-large", "efficientnet-lite0", "resnet-18" or
/// "resnet-20". output: ONNX file to write, whole or not at all.
/// conv1x1, dwconv3x3, conv3x3, fc: zeros such as "4x4:0.5", "3:9", "5:9"; dense without.
/// seed: of the weights.
/// batch: images at a time, or a symbol such as "N"; 1 without.
/// hw: height and width of the input in pixels; the network's own without.
/// width: channel multiplier, 0.01 to 4.
///
/// Returns the bytes of the model, or None if there is an output.
#[pyfunction]
#[pyo3(signature = (
    network, output = None, *, conv1x1 = None, dwconv3x3 = None, conv3x3 = None, fc = None, seed = 1, batch = None,
    hw = None, width = 1.0
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn zoo<'py>(
    py: Python<'py>,
    network: &str,
    output: Option<PathBuf>,
    conv1x1: Option<&str>,
    dwconv3x3: Option<&str>,
    conv3x3: Option<&str>,
    fc: Option<&str>,
    seed: u64,
    batch: Option<&Bound<'py, PyAny>>,
    hw: Option<usize>,
    width: f64,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let network = Network::by_name(network).map_err(raised)?;
    let zeros = |option: &str, text: Option<&str>| -> PyResult<Option<Zeros>> {
        let parsed = text.map(str::parse).transpose();
        parsed.map_err(|error| wrong(format!("{option}: {error}")))
    };
    let batch = match batch {
        None => Batch::Fixed(1),
        Some(symbol) if symbol.is_instance_of::<PyString>() => {
            symbol.extract::<String>()?.parse().map_err(raised)?
        }
        Some(number) => Batch::Fixed(number.extract()?),
    };
    let spec = Spec {
        conv1x1: zeros("conv1x1", conv1x1)?,
        dwconv3x3: zeros("dwconv3x3", dwconv3x3)?,
        conv3x3: zeros("conv3x3", conv3x3)?,
        fc: zeros("fc", fc)?,
        seed,
        batch,
        hw,
        width,
    };
    let bytes = watched(py, None, move |_| {
        let model = ::zoo::build(network, &spec)?;
        match output {
            Some(path) => ::zoo::write(&model, &path).map(|()| None),
            None => Ok(Some(::zoo::encode(&model))),
        }
    })?;
    Ok(bytes.map(|bytes| PyBytes::new(py, &bytes)))
}
