#!/usr/bin/env python3
"""The same commands in tract's own command line and in ours, side by side: docs/tract-transcript.md.

    scripts/tract-transcript.py            writes it
    scripts/tract-transcript.py --check    runs everything again and fails if anything but times has changed

Both programs are built where they are missing (tract's takes long): ours by cargo in this workspace, tract's by
`cargo install tract-cli` into target/tract-cli. --tract and --ours name other ones.
"""

import argparse
import difflib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRANSCRIPT = ROOT / "docs" / "tract-transcript.md"
VERSION = "0.23.9"
# The longest output that is shown whole; of longer ones the first and last lines are. Lines are cut, too.
LINES = 16
COLUMNS = 110

# What a command leaves to be said: the command (or two, tract's and ours), a filter of its output, the difference in words.
#   None       print as it is
#   "node X"   JSON with a list "nodes": its keys and the node X
#   "exit"     the exit code, and the first line on stderr
STEPS = [
    ("The graph", [
        ("--pass load m.onnx dump --node-name block5_conv1", None, ""),
        ("--pass analyse m.onnx dump --node-name block5_conv1", None, ""),
        ("--pass type m.onnx dump --node-name block5_skip", None, "Layers that run sparse say so."),
        ("m.onnx dump --node-name block5_skip", None,
         "A strided 1x1 convolution, which stock tract takes apart into `Downsample` and a product, stays one operator."),
        (("-O m.onnx dump --node-name block5_skip", "-O m.onnx dump --op-name OptSparse"), None,
         "One operator for each of our layers: bias, activation and residual addition are in it, nothing is packed."),
        (("-O m.onnx dump --info --node-name block5_skip.einsum", "-O m.onnx dump --info --op-name OptSparse"), None,
         "`--info` says which kernel, what was predicted, and how many weights are not zero."),
        ("m.onnx dump --const --node-name fc", None, "Batch normalisation and bias are folded into our layers earlier."),
        ("m.onnx dump --io-long --node-name block2_conv1", None, ""),
        ("m.onnx dump --natural-order --io-none --node-name block2", None, ""),
        ("m.onnx dump -s", None, "`DenseFMA` is what the sparse layers would count if they were dense."),
        ("m.onnx dump --audit-json", "node conv1", ""),
    ]),
    ("Inputs, outputs, stages", [
        ("-i 2,3,32,32,f32 m.onnx dump -s", "exit",
         "tract believes the output shape that is written in the file, 1x10, and refuses; we work it out from the "
         "input."),
        ("--set N=2 n.onnx dump --node-name input", None, ""),
        ("n.onnx dump --node-name input", None, ""),
        ("--input-node block2_relu --output-node block3_add m.onnx dump --natural-order --op-name Add", None, ""),
        ("-t f32_to_f16 m.onnx dump -s", None, "Sparse layers, and what hangs together with them, compute in f32."),
        ("m.onnx dump -q --nnef-tar NAME.nnef.tar --nnef-deterministic", None,
         "Ours holds the dense layers, so that any tract can read it:"),
        ("tract.nnef.tar dump -s", None, "", "tract"),
        ("ours.nnef.tar dump -s", None, "", "tract"),
    ]),
    ("Cost and profile", [
        ("m.onnx dump --cost --node-name block5_skip", None,
         "FMA counts weights that are not zero; `DenseFMA` stands beside it."),
        (("-O m.onnx dump --profile --cost --max-loops 50 --node-name block5_skip.prefused -R",
          "-O m.onnx dump --profile --cost --max-loops 50 --op-name OptSparse -R"), None,
         "F/s is work that was done, not work that was left out."),
        ("m.onnx dump --profile --cost --max-loops 50 -R --json", "node block5_skip", "(Ours is indented.)"),
        ("m.onnx dump -q --cost --assert-cost FMA(F32)=1", "exit",
         "An assertion that does not hold has an exit code of its own, 3."),
        ("m.onnx dump -q --assert-op-count Source 1", "exit", ""),
    ]),
    ("Bench", [
        ("-O m.onnx bench -R --max-loops 50 --warmup-loops 2", None,
         "The same first line; medians and quartiles below it. Ours optimises without `-O`, too, as do `run` and "
         "`compare`."),
        ("-O --machine-friendly m.onnx bench -R --max-time 200", None, ""),
        ("-O --emit-jsonl m.onnx bench -R --max-time 200", None, ""),
        ("-O m.onnx bench -R --streams 2 --max-time 200", None, ""),
    ]),
    ("Run and compare", [
        ("-O m.onnx run --input-from-npz x.npz --dump", None, "A table of the outputs comes first."),
        ("-O m.onnx run --input-from-npz x.npz --save-outputs NAME.npz", "exit", ""),
        ("-O m.onnx run --input-from-npz x.npz --assert-output-bundle tract.npz", "exit",
         "Both agree with what tract saved. Without `--approx` tract takes `close`, ours `approximate`: another kernel adds in "
         "another order."),
        ("-O m.onnx run -R --assert-output-bundle tract.npz", "exit", "Another input."),
        ("-O m.onnx compare --stage declutter -R", None,
         "Ours has a table; without `--stage`, `--npz` or `--twice` it compares with stock tract."),
        ("m.onnx compare --twice -R", None, ""),
    ]),
    ("Mistakes", [
        ("missing.onnx dump", "exit", "Ours says it in one line, whatever it is."),
        ("m.onnx dump --frobnicate", "exit", ""),
        ("-i 1,4,32,32,f32 m.onnx dump", "exit", "tract prints the graph as far as it got, too."),
        ("--pass codegen m.onnx dump", "exit", ""),
        ("-t frobnicate m.onnx dump", "exit", ""),
    ]),
]

NOT_HERE = """\
## What tract has and we have not

- Without a command tract dumps; ours asks for one. Colours are for terminals only: tract's are taken out above.
- `--mm`, `--memory-arena`, `--inner`, `--tflite`, `--compress-submodels`, `--axes-names` of `dump`; `--capacity` and
  `--session-duration` of `bench`; `--random-range`, `--save-outputs-nnef`, `--assert-output` of `run`; `--pbdir` and
  `--stream` of `compare`.
- TensorFlow and TFLite models, language models, GPUs.
- tract's parameters of a transform are RON, `-t 'name(field: value)'`; ours are JSON, `-t 'name({"field": value})'`.
- `--threads N`: tract's own program is built without threads; ours has them.
"""

# What may differ from run to run: times, and what follows from them.
MASKS = [
    (r"\d+\.\d+ [mµ]s/i( +\d+\.\d+%)?", "TIME"),
    (r"\d+\.\d+ +[kMG]?F/s", "SPEED"),
    (r"\b(median|min|max) [\d.]+", r"\1 TIME"),
    (r"quartiles [\d.]+ - [\d.]+", "quartiles TIME"),
    (r"[\d.]+ turns/sec", "N turns/sec"),
    (r"(latency|added) [\d.]+ ms", r"\1 TIME"),
    (r"Bench ran \d+ times", "Bench ran N times"),
    (r"real: [\d.e-]+", "real: TIME"),
    (r'("value"|"secs_per_iter"): ?[\d.e-]+', r"\1: TIME"),
    (r'"iterations": \d+', '"iterations": N'),
    (r"predicted \d+ us against \d+ us", "predicted TIME"),
    (r"Packed(F32|I8)\[\d+\]@\d+\+\d+", "PACKED"),
    (r"Max ULP \(F32\): \d+", "Max ULP"),
    (r"-?\d+\.\d{4,}", "FLOAT"),
    (r"\b\d\.\de-?\d+", "FLOAT"),
    (r"\d\d\d\d-\d\d-\d\dT[\d:.]+Z ", ""),
    (r"[ \t]+", " "),
    # tract prints these in no order
    (r"got \{.*\}", "got COSTS"),
    (r"Made on .*", ""),
]


def masked(text):
    for pattern, to in MASKS:
        text = re.sub(pattern, to, text)
    return [line.rstrip() for line in text.splitlines()]


def plain(data):
    return re.sub(r"\x1b\[[0-9;]*m", "", data.decode("utf-8", "replace"))


def run(program, line, folder):
    done = subprocess.run([program, *shlex.split(line)], cwd=folder, capture_output=True, check=False,
                          env={**os.environ, "TRACT_SPARSE": "always", "TRACT_SPARSE_TARGET": "scalar",
                               "RUST_BACKTRACE": "0", "NO_COLOR": "1"})
    return done.returncode, plain(done.stdout), plain(done.stderr)


def shortened(text):
    # where the file comes from, the same below every listing
    lines = [line.rstrip() for line in text.rstrip().splitlines()
             if not re.match(r"# Properties|\* (onnx|tract)[._]", line)]
    # a table in the order of times, which is another one in every run
    first = next((at for at, line in enumerate(lines) if line.startswith("Most time consuming")), None)
    if first is not None:
        after = next(at for at, line in enumerate(lines) if line.startswith("Not accounted"))
        lines[first:after] = ["... operators, models and names by their time ..."]
    if len(lines) > LINES:
        left = len(lines) - LINES
        lines = [*lines[:LINES - 3], f"... {left} lines ...", *lines[-3:]]
    return "\n".join(line if len(line) <= COLUMNS else line[:COLUMNS - 3] + "..." for line in lines)


def node_of(text, name):
    value = json.loads(text)
    name_of = lambda node: node.get("node_name") or node.get("name")
    node = [node for node in value["nodes"] if name_of(node) == name]
    for each in node:
        for key in ("cost", ):
            if key in each:
                each[key] = dict(sorted(each[key].items()))
    rest = {key: value[key] for key in value if key == "profiling_info"}
    return f"keys: {', '.join(sorted(value))}\n" + json.dumps([*node, *([rest] if rest else [])], indent=1)


def shown(program, line, what, folder):
    """What a reader of the transcript sees of one command."""
    code, stdout, stderr = run(program, line, folder)
    if what == "exit":
        # tract logs errors over several lines with times before them
        first = [text for text in re.sub(r"\[\S+ (ERROR|WARN ) \S+\] ", "", stderr).splitlines() if text.strip()]
        return "\n".join([f"exit code {code}", *first[:1]]).strip()
    if code != 0:
        sys.exit(f"{program} {line}: exit code {code}\n{stderr}")
    if what and what.startswith("node "):
        return shortened(node_of(stdout, what.split(" ", 1)[1]))
    return shortened(stdout) or "(nothing)"


def block(text):
    return f"```\n{text}\n```\n"


def transcript(tract, ours, folder):
    def made(line):
        code, _, stderr = run(ours, line, folder)
        if code != 0:
            sys.exit(f"{line}: {stderr}")

    network = "zoo resnet-20 --width 0.5 --conv1x1 4x4:0.75 --seed 1"
    made(f"{network} -o m.onnx")
    made(f"{network} --batch N -o n.onnx")


    made_input(folder / "x.npz")

    cpu = next((line.split(":", 1)[1].strip() for line in cpuinfo() if line.startswith("model name")), os.uname().machine)
    text = [
        "# The same commands in tract and here\n",
        f"`tract` is tract-cli {VERSION} from crates.io, `tract-sparse` is ours. Where both print the same, it is shown once. "
        "`scripts/tract-transcript.py` makes this file; `scripts/tract-transcript.py --check` runs all of it again and compares "
        "everything but the times.\n",
        f"Made on {cpu}. `m.onnx` is `tract-sparse {network}`, `n.onnx` the same with `--batch N`. "
        "`TRACT_SPARSE=always` and `TRACT_SPARSE_TARGET=scalar` are set, so that it reads alike on every machine; times "
        "are those of the scalar kernels. What the file says of its origin, which tract prints below every listing, is left "
        "out; long lines and listings are cut.\n",
    ]
    for title, steps in STEPS:
        text.append(f"## {title}\n")
        for line, what, note, *only in steps:
            outputs = {}
            lines = dict(zip(("tract", "tract-sparse"), line if isinstance(line, tuple) else (line, line)))
            for name, program in (("tract", tract), ("tract-sparse", ours)):
                if not only or name in only:
                    short = "tract" if name == "tract" else "ours"
                    outputs[name] = shown(program, lines[name].replace("NAME", short), what, folder)
            if len({tuple(masked(output)) for output in outputs.values()}) == 1:
                both = "both" if len(outputs) == 2 else "tract"
                text.append(f"`{lines['tract']}`: {both}\n")
                text.append(block(next(iter(outputs.values()))))
            else:
                for name, output in outputs.items():
                    text.append(f"`{name} {lines[name]}`\n")
                    text.append(block(output))
            if note:
                text.append(f"{note}\n")
    text.append(NOT_HERE)
    return "\n".join(text)


def cpuinfo():
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def made_input(path):
    """An .npz file with one array, input, of 1x3x32x32 f32, without numpy."""
    import struct
    import zipfile
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 32, 32), }"
    header += " " * (63 - (len(header) + 10) % 64) + "\n"
    values = [((c + y * x) % 7) - 3.0 for c in range(3) for y in range(32) for x in range(32)]
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + struct.pack("<3072f", *values)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("input.npy", data)


def program(given, path, build):
    if given:
        return str(Path(given).resolve())
    if not path.exists():
        print(f"building {path.relative_to(ROOT)}", file=sys.stderr)
        subprocess.run(build, cwd=ROOT, check=True)
    return str(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the file, do not write it")
    parser.add_argument("--tract", help=f"tract's own program, version {VERSION}")
    parser.add_argument("--ours", help="tract-sparse")
    args = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    ours = program(args.ours, target / "release" / "tract-sparse",
                   ["cargo", "build", "--release", "--workspace", "--bin", "tract-sparse"])
    tract = program(args.tract, target / "tract-cli" / "bin" / "tract",
                    ["cargo", "install", "tract-cli", "--version", VERSION, "--locked", "--root", target / "tract-cli"])
    with tempfile.TemporaryDirectory() as folder:
        text = transcript(tract, ours, Path(folder))
    if not args.check:
        TRANSCRIPT.write_text(text)
        return
    before, after = masked(TRANSCRIPT.read_text()), masked(text)
    difference = list(difflib.unified_diff(before, after, str(TRANSCRIPT.name), "now", lineterm=""))
    if difference:
        print("\n".join(difference))
        sys.exit("the transcript is not what the programs say; scripts/tract-transcript.py writes it anew")
    print(f"{TRANSCRIPT.name}: as it is written, times apart")


if __name__ == "__main__":
    main()
