#!/usr/bin/env python3
"""Other inference engines, each driven over standard input; benches/src/report/rivals.rs is the driver.

    rivals.py versions                 which engines this Python has, as JSON
    rivals.py serve ENGINE CASE.json   one engine, one thread: load, answer, wait for orders
    rivals.py quantise MODEL.onnx OUT.onnx [INPUTS ...]
                                       write MODEL as QDQ, with onnxruntime's quantiser

CASE.json says {"model": FILE, "shared_rows": N, "inputs": [{"name", "shape", "file"}], "outputs": [{"name", "file"}]}; the
files hold f32 in the machine's byte order. `serve` runs the model once, writes the outputs and prints {"ready": true,
"precision": "f32"}, what the engine says that it computes in, or {"error": "..."}. Then it answers every line N with the milliseconds of N runs, as a JSON list, until its input ends.

`quantise` is static: u8 activations, i8 weights with a scale for each output channel. Activations are calibrated on INPUTS, each
a CASE.json, whose inputs also count times -0.7, or a .npz with an array for each input of the model, which may have several
samples along a first axis of its own; without any, on noise.

Example:

    python3 -m venv target/rivals-venv
    target/rivals-venv/bin/pip install numpy onnxruntime onnx openvino MNN
    cargo run --release --bin report
"""

import argparse
import importlib.metadata
import json
import logging
import os
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")


class Onnxruntime:
    PACKAGE = "onnxruntime"

    def __init__(self, case, inputs):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Without it, products of u8 and i8 saturate on processors without VNNI: faster, and other answers than the file's.
        options.add_session_config_entry("session.x64quantprecision", "1")
        self.session = onnxruntime.InferenceSession(case["model"], options, providers=["CPUExecutionProvider"])
        self.names = [output["name"] for output in case["outputs"]]
        self.inputs = inputs

    def run(self):
        return self.session.run(self.names, self.inputs)


class OpenVino:
    """As it runs when nothing is said: in bf16 where the machine has instructions for that."""
    PACKAGE = "openvino"
    HINTS = {}

    def __init__(self, case, inputs):
        import openvino
        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                    "ENABLE_CPU_PINNING": False, **self.HINTS}
        compiled = core.compile_model(core.read_model(case["model"]), "CPU", settings)
        self.request = compiled.create_infer_request()
        for name, values in inputs.items():
            self.request.set_tensor(name, openvino.Tensor(values))
        self.outputs = [compiled.output(output["name"]) for output in case["outputs"]]
        # an openvino.Type, printed as <Type: 'bfloat16'>
        self.precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def run(self):
        self.request.infer()
        return [self.request.get_tensor(output).data for output in self.outputs]


class OpenVinoF32(OpenVino):
    HINTS = {"INFERENCE_PRECISION_HINT": "f32"}


class Mnn:
    PACKAGE = "MNN"
    SPARSE = False

    def __init__(self, case, inputs):
        import MNN
        import numpy
        # the network is read when it is created: the file need not outlive that
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.mnn")
            mnn_convert(case["model"], path, case["shared_rows"] if self.SPARSE else 0, folder)
            self.net = MNN.Interpreter(path)
        self.session = self.net.createSession({"backend": "CPU", "numThread": 1, "precision": "high"})

        def host(shape, values):
            return MNN.Tensor(tuple(shape), MNN.Halide_Type_Float, values, MNN.Tensor_DimensionType_Caffe)

        self.inputs = []
        for name, values in inputs.items():
            tensor = self.net.getSessionInput(self.session, name)
            self.net.resizeTensor(tensor, values.shape)
            self.inputs.append((tensor, host(values.shape, values)))
        self.net.resizeSession(self.session)
        self.outputs = []
        for output in case["outputs"]:
            tensor = self.net.getSessionOutput(self.session, output["name"])
            shape = tensor.getShape()
            self.outputs.append((tensor, host(shape, numpy.zeros(shape, numpy.float32))))

    def run(self):
        for tensor, values in self.inputs:
            tensor.copyFrom(values)
        self.net.runSession(self.session)
        for tensor, values in self.outputs:
            tensor.copyToHostTensor(values)
        return [values.getNumpyData() for _, values in self.outputs]


class MnnSparse(Mnn):
    SPARSE = True


ENGINES = {"onnxruntime": Onnxruntime, "openvino-f32": OpenVinoF32, "openvino": OpenVino, "mnn": Mnn, "mnn-sparse": MnnSparse}
# what `versions` calls the maker of quantised files
QUANTISER = "quantiser"


def mnn_convert(model, path, shared_rows, folder):
    """The converter inside MNN's wheel. (Its command `mnnconvert` is a wrapper that installs and calls telemetry.)

    With `shared_rows` above zero it looks for sparse layers; above one it is told by a compression pipeline, a protobuf
    message, that so many output channels share their zeros.
    """
    import _tools
    args = ["mnnconvert", "-f", "ONNX", "--modelFile", model, "--MNNModel", path, "--bizCode", "report"]
    if shared_rows:
        args.append("--detectSparseSpeedUp")
    if shared_rows > 1:
        # Pipeline { version = 1, algo = 2 }, CompressionAlgo { type = 1: PRUNE, prune_params = 3 },
        # PruneParams { type = 1: SIMD_OC, simd_oc_prune_params = 3 }, SIMDOCPrunerParams { oc_blocks = 4 }
        blocks = message({4: shared_rows})
        prune = message({1: 1, 3: blocks})
        pipeline = message({1: b"0.0.0", 2: message({1: 1, 3: prune})})
        params = os.path.join(folder, "pipeline.bin")
        with open(params, "wb") as file:
            file.write(pipeline)
        args += ["--compressionParamsFile", params]
    _tools.mnnconvert(args)
    if not os.path.exists(path):
        raise RuntimeError("MNN's converter wrote nothing")


def message(fields):
    """A protobuf message of small numbers and of byte strings."""
    def small(number):
        if not 0 <= number < 128:
            raise ValueError(f"{number} takes more than one byte")
        return bytes([number])

    data = b""
    for field, value in fields.items():
        if isinstance(value, int):
            data += small(field << 3) + small(value)
        else:
            data += small(field << 3 | 2) + small(len(value)) + value
    return data


def versions():
    found = {}
    for name, engine in ENGINES.items():
        try:
            found[name] = importlib.metadata.version(engine.PACKAGE)
            importlib.metadata.version("numpy")
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    try:
        importlib.metadata.version("onnx")
        found[QUANTISER] = found["onnxruntime"]
    except importlib.metadata.PackageNotFoundError:
        found[QUANTISER] = None
    return found


def read_case(file):
    """A case, and its inputs by name."""
    import numpy
    with open(file, encoding="utf-8") as text:
        case = json.load(text)
    return case, {each["name"]: numpy.fromfile(each["file"], numpy.float32).reshape(each["shape"])
                  for each in case["inputs"]}


def samples_of(model, files):
    """What a model is calibrated on: a dictionary of inputs after the other."""
    import numpy
    import onnxruntime
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    shapes = {each.name: each.shape for each in session.get_inputs()}
    samples = []
    for file in files:
        if file.endswith(".npz"):
            arrays = dict(numpy.load(file).items())
            if arrays and all(values.ndim == len(shapes.get(name, ())) + 1 for name, values in arrays.items()):
                samples += [dict(zip(arrays, sample)) for sample in zip(*arrays.values())]
            else:
                samples.append(arrays)
        else:
            inputs = read_case(file)[1]
            samples += [inputs, {name: numpy.float32(-0.7) * values for name, values in inputs.items()}]
        if set(samples[-1]) != set(shapes):
            raise ValueError(f"{file} has {sorted(samples[-1])}, but the inputs of the model are {sorted(shapes)}")
    if not samples:
        noise = numpy.random.default_rng(1)
        for name, shape in shapes.items():
            if not all(isinstance(extent, int) for extent in shape):
                raise ValueError(f"input {name} is of shape {shape}: give inputs to calibrate on")
        samples = [{name: noise.uniform(-1, 1, shape).astype(numpy.float32) for name, shape in shapes.items()}
                   for _ in range(4)]
    return samples


def quantise(model, to, files):
    import onnx
    import onnxruntime.quantization as q
    logging.disable(logging.WARNING)

    class Reader(q.CalibrationDataReader):
        def __init__(self):
            self.samples = iter(samples_of(model, files))

        def get_next(self):
            return next(self.samples, None)

    with tempfile.TemporaryDirectory() as folder:
        # scales of channels came with opset 13
        opset = next(each.version for each in onnx.load(model, load_external_data=False).opset_import
                     if each.domain in ("", "ai.onnx"))
        if opset < 13:
            newer = os.path.join(folder, "newer.onnx")
            onnx.save(onnx.version_converter.convert_version(onnx.load(model), 13), newer)
            model = newer
        q.quantize_static(model, to, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                          activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8)


def serve(name, case_file):
    # what libraries print goes to stderr; the driver reads answers alone
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(value):
        print(json.dumps(value), file=answers, flush=True)

    try:
        import numpy
        case, inputs = read_case(case_file)
        engine = ENGINES[name](case, inputs)
        for output, values in zip(case["outputs"], engine.run()):
            numpy.asarray(values, numpy.float32).tofile(output["file"])
    except Exception as error:  # whatever an engine raises is its answer
        say({"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]})
        return
    say({"ready": True, "precision": getattr(engine, "precision", "f32")})
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            engine.run()
            times.append(1e3 * (time.perf_counter() - start))
        say(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("versions", help="print which engines there are")
    server = commands.add_parser("serve", help="run one engine")
    server.add_argument("engine", choices=ENGINES)
    server.add_argument("case", metavar="CASE.json")
    quantiser = commands.add_parser("quantise", help="write a model as QDQ")
    quantiser.add_argument("model", metavar="MODEL.onnx")
    quantiser.add_argument("to", metavar="OUT.onnx")
    quantiser.add_argument("inputs", metavar="INPUTS", nargs="*")
    args = parser.parse_args()
    if args.command == "versions":
        print(json.dumps(versions()))
    elif args.command == "quantise":
        try:
            quantise(args.model, args.to, args.inputs)
        except Exception as error:  # the quantiser raises whatever it likes
            sys.exit(" ".join(f"error: {type(error).__name__}: {error}".split())[:300])
    else:
        serve(args.engine, args.case)


if __name__ == "__main__":
    main()
