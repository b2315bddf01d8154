//! Other engines on the same files: each is a Python process of its own, run by `scripts/rivals.py`, which
//! loads the network, writes its answer beside it and waits to be asked for a number of runs.

use anyhow::{Context, Result, bail, ensure};
use figures::{Agreement, HALF_TOLERANCE};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tract_core::internal::*;

/// Name in `rivals.py`, title, package of pip.
const ENGINES: [[&str; 3]; 5] = [
    ["onnxruntime", "onnxruntime", "onnxruntime"],
    ["openvino-f32", "OpenVINO f32", "openvino"],
    ["openvino", "OpenVINO default", "openvino"],
    ["mnn", "MNN", "MNN"],
    ["mnn-sparse", "MNN sparse", "MNN"],
];

/// The same of those that run quantised files.
const INT8_ENGINES: [[&str; 3]; 2] =
    [["onnxruntime", "onnxruntime int8", "onnxruntime"], ["openvino", "OpenVINO int8", "openvino"]];

/// What makes such files.
const QUANTISER: [&str; 3] = ["quantiser", "onnxruntime's quantiser", "onnxruntime onnx"];

/// Engines add up the same products in other orders, and MNN's fast convolutions round more than that: what
/// they may differ by, relative to the largest value of an output. A wrong weight shows at 1e-2 and more.
/// Those that compute in another precision than f32 may differ by [`HALF_TOLERANCE`].
const TOLERANCE: f64 = 1e-3;

/// An engine that is compared with.
#[derive(Debug, Clone, Serialize)]
pub struct Engine {
    /// As tables call it.
    pub title: &'static str,
    /// Its version; none if it is not installed.
    pub version: Option<String>,
    /// What installs it.
    pub install: String,
    #[serde(skip)]
    name: &'static str,
}

/// The engines of a Python.
#[derive(Debug)]
pub struct Rivals {
    python: PathBuf,
    engines: Vec<Engine>,
    int8_engines: Vec<Engine>,
    quantiser: Engine,
}

/// Where the engines are looked for if nothing else is said.
pub fn default_python() -> PathBuf {
    root().join("target/rivals-venv/bin/python")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn script() -> PathBuf {
    root().join("scripts/rivals.py")
}

impl Rivals {
    /// Asks a Python which engines it has; `target/rivals-venv` is asked if none is named, and then need not
    /// be there.
    ///
    /// # Errors
    /// A Python that is named and does not run.
    pub fn look(named: Option<&Path>) -> Result<Rivals> {
        let python = named.map_or_else(default_python, Path::to_path_buf);
        let versions = if named.is_some() || python.exists() { versions(&python)? } else { Value::Null };
        let pip = match named {
            Some(python) => format!("{} -m pip install", python.display()),
            None => {
                "python3 -m venv target/rivals-venv && target/rivals-venv/bin/python -m pip install".into()
            }
        };
        let engine = |[name, title, package]: [&'static str; 3]| Engine {
            title,
            version: versions[name].as_str().map(String::from),
            install: format!("{pip} numpy {package}"),
            name,
        };
        let (engines, int8_engines) = (ENGINES.map(engine).to_vec(), INT8_ENGINES.map(engine).to_vec());
        Ok(Rivals { engines, int8_engines, quantiser: engine(QUANTISER), python })
    }

    /// Every engine, installed or not.
    pub fn engines(&self) -> &[Engine] {
        &self.engines
    }

    /// Every engine that runs quantised files, installed or not.
    pub fn int8_engines(&self) -> &[Engine] {
        &self.int8_engines
    }

    /// What makes quantised files, installed or not.
    pub fn quantiser(&self) -> &Engine {
        &self.quantiser
    }

    /// Writes a network as a QDQ file: u8 activations, i8 weights with a scale for each output channel. It is calibrated
    /// on the inputs of the network, or on files of `given` ones.
    ///
    /// # Errors
    /// What the quantiser says.
    pub fn quantise(&self, network: &Network, to: &Path, given: &[PathBuf]) -> Result<()> {
        let mut command = Command::new(&self.python);
        command.arg(script()).arg("quantise").arg(&network.file).arg(to);
        match given {
            [] => command.arg(network.case(self.quantiser.name)?),
            given => command.args(given),
        };
        let output = command.output().with_context(|| self.python.display().to_string())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", stderr.lines().last().unwrap_or("the quantiser fails"));
        Ok(())
    }

    /// What onnxruntime makes of a quantised network; none if it is not installed.
    ///
    /// # Errors
    /// It refuses the network.
    pub fn int8_answer(&self, network: &Network) -> Result<Option<Vec<TValue>>> {
        let engine = self.int8_engines.iter().find(|engine| engine.name == ENGINES[0][0]);
        let Some(engine) = engine.filter(|engine| engine.version.is_some()) else { return Ok(None) };
        let (_, answer) = self.answered(engine, network)?;
        Ok(Some(answer.into_iter().map(Tensor::into_tvalue).collect()))
    }

    /// Starts an engine on a network; the answer of one that does not take it is an error.
    ///
    /// # Errors
    /// The engine refuses the network; its outputs are not `expected`.
    pub fn start(&self, engine: &Engine, network: &Network) -> Result<Worker> {
        let (mut worker, got) = self.answered(engine, network)?;
        let exact = worker.precision == "f32" && !network.quantised;
        let tolerance = if exact { TOLERANCE } else { HALF_TOLERANCE };
        let agreement = Agreement::of_all(&network.expected, &got, tolerance)?;
        let from = if network.quantised { "onnxruntime" } else { "stock tract" };
        ensure!(agreement.agrees, "an output differs by {:.1e} from {from}'s", agreement.max_abs_diff);
        worker.agreement = Some(agreement);
        Ok(worker)
    }

    /// An engine that has run a network once, and its outputs.
    fn answered(&self, engine: &Engine, network: &Network) -> Result<(Worker, Vec<Tensor>)> {
        let case = network.case(engine.name)?;
        let mut child = Command::new(&self.python)
            .arg(script())
            .args(["serve", engine.name])
            .arg(&case)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| self.python.display().to_string())?;
        let orders = child.stdin.take().context("no pipe to the engine")?;
        let answers = BufReader::new(child.stdout.take().context("no pipe from the engine")?);
        let mut worker =
            Worker { child, orders: Some(orders), answers, agreement: None, precision: "f32".into() };
        let said = worker.answer()?;
        if let Some(error) = said["error"].as_str() {
            bail!("{error}");
        }
        let got = network
            .expected
            .iter()
            .enumerate()
            .map(|(at, expected)| read(&network.output(engine.name, at), expected));
        let got = got.collect::<Result<Vec<_>>>()?;
        if let Some(precision) = said["precision"].as_str() {
            worker.precision = precision.into();
        }
        Ok((worker, got))
    }
}

fn versions(python: &Path) -> Result<Value> {
    let run = || -> Result<Value> {
        let output = Command::new(python).arg(script()).arg("versions").output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", stderr.lines().last().unwrap_or("it fails"));
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    run().with_context(|| format!("asking {} for engines", python.display()))
}

/// Values from a file, in the shape of `like`.
fn read(path: &Path, like: &Tensor) -> Result<Tensor> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect();
    ensure!(values.len() == like.len(), "an output has {} values and not {}", values.len(), like.len());
    Tensor::from_shape(like.shape(), &values)
}

/// What engines are told of a network.
#[derive(Debug)]
pub struct Network {
    folder: PathBuf,
    file: PathBuf,
    shared_rows: usize,
    inputs: Vec<Value>,
    outputs: Vec<String>,
    expected: Vec<TValue>,
    quantised: bool,
}

impl Network {
    /// Writes the f32 inputs, named, into `folder`; `outputs` are named as in the file, in the order of
    /// `expected`.
    ///
    /// # Errors
    /// A file that cannot be written; inputs that are not f32.
    pub fn new(
        folder: &Path,
        file: &Path,
        shared_rows: usize,
        inputs: &[(String, TValue)],
        outputs: Vec<String>,
        expected: Vec<TValue>,
    ) -> Result<Network> {
        let folder = folder.canonicalize()?;
        let mut files = vec![];
        for (at, (name, value)) in inputs.iter().enumerate() {
            let path = folder.join(format!("x{at}.f32"));
            let values = value.to_plain_array_view::<f32>()?;
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
            std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
            files.push(json!({ "name": name, "shape": value.shape(), "file": path }));
        }
        let file = file.canonicalize()?;
        Ok(Network { folder, file, shared_rows, inputs: files, outputs, expected, quantised: false })
    }

    /// The same as a QDQ file, of which outputs are `expected`: as near as in half precision.
    ///
    /// # Errors
    /// A file that is not there.
    pub fn quantised(self, folder: &Path, file: &Path, expected: Vec<TValue>) -> Result<Network> {
        let (folder, file) = (folder.canonicalize()?, file.canonicalize()?);
        Ok(Network { folder, file, expected, quantised: true, ..self })
    }

    /// The same, of which other outputs are expected.
    pub fn expecting(self, expected: Vec<TValue>) -> Network {
        Network { expected, ..self }
    }

    /// The file from which an engine knows all that.
    fn case(&self, engine: &str) -> Result<PathBuf> {
        let case = self.folder.join(format!("{engine}.json"));
        let named = |at: usize, name: &String| json!({ "name": name, "file": self.output(engine, at) });
        let outputs: Vec<Value> = self.outputs.iter().enumerate().map(|(at, n)| named(at, n)).collect();
        let value = json!({
            "model": self.file,
            "shared_rows": self.shared_rows,
            "inputs": self.inputs,
            "outputs": outputs,
        });
        std::fs::write(&case, value.to_string()).with_context(|| case.display().to_string())?;
        Ok(case)
    }

    /// Where an engine puts an output.
    fn output(&self, engine: &str, at: usize) -> PathBuf {
        self.folder.join(format!("{engine}.y{at}.f32"))
    }
}

/// A running engine; it ends when this is dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    agreement: Option<Agreement>,
    precision: String,
}

impl Worker {
    /// The milliseconds of `n` runs.
    ///
    /// # Errors
    /// The engine has died.
    pub fn run(&mut self, runs: usize) -> Result<Vec<f64>> {
        let orders = self.orders.as_mut().context("the engine has been stopped")?;
        writeln!(orders, "{runs}").and_then(|()| orders.flush()).context("the engine has died")?;
        Ok(serde_json::from_value(self.answer()?)?)
    }

    /// Largest difference of its outputs from stock tract's.
    pub fn max_abs_diff(&self) -> f64 {
        self.agreement.map_or(f64::INFINITY, |agreement| agreement.max_abs_diff)
    }

    /// The numbers that it says it computes in.
    pub fn precision(&self) -> &str {
        &self.precision
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "the engine has died");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // its input ends, and then so does the process; one that hangs is not waited for
        drop(self.orders.take());
        for _ in 0..50 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
