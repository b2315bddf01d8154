"""Times of exported networks: this engine, stock tract, onnxruntime."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import runs
from .runs import Record, Run

FILE = runs.RESULTS / "latency.jsonl"
COLUMNS = ("engine_ms", "stock_ms", "onnxruntime_ms")
HEADINGS = ("this engine, µs", "stock tract, µs", "onnxruntime, µs")
ROUNDS = 40
#: Python with onnxruntime, where it is not this one.
ORT_PYTHON = os.environ.get("TRACT_SPARSE_ORT_PYTHON", sys.executable)

ORT = """
import sys, time, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
for line in sys.stdin:
    session = onnxruntime.InferenceSession(line.strip(), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    feed = {given.name: numpy.random.default_rng(1).random(given.shape, dtype=numpy.float32)}
    taken = []
    for _ in range(250):
        start = time.perf_counter()
        session.run(None, feed)
        taken.append(time.perf_counter() - start)
    print(1000 * float(numpy.median(taken[30:])), flush=True)
"""


#: The same layers with eight channels each: what a run costs besides arithmetic.
FLOOR = Run(width=0.01)


def _floor(file: Path) -> Path:
    from tract_sparse.torch import export

    from . import networks, training

    file.parent.mkdir(parents=True, exist_ok=True)
    model = networks.made(FLOOR.network, FLOOR.width, FLOOR.seed)
    export(model, training.example(FLOOR), file, input_names=["picture"], output_names=["scores"])
    return file


def read() -> dict[str, Record]:
    return runs.read(FILE)


def measure(wanted: Sequence[Run], file_of: Callable[[Run], Path]) -> None:
    """Times the networks of runs in turn, in several rounds. Pin it to an idle core.

    A round gives a median; the best round counts, since other programs only make it slower.
    """
    import tract_sparse

    from .training import cpu

    known = [run for run in wanted if file_of(run).exists()]
    if len(known) < len(wanted):
        print(f"{len(wanted) - len(known)} of {len(wanted)} networks are not here: `train TABLE --networks` makes them")
    files = {run.key(): file_of(run) for run in known} | {FLOOR.key(): _floor(file_of(FLOOR))}
    taken: dict[str, dict[str, list[float]]] = {key: {name: [] for name in COLUMNS} for key in files}
    # dense networks run on our kernels, too
    sessions = {key: tract_sparse.Session(file, sparse="dense") for key, file in files.items()}
    other = subprocess.Popen(
        [ORT_PYTHON, "-c", ORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin and other.stdout
    for number in range(ROUNDS):
        for key, file in files.items():
            own = taken[key]
            found = sessions[key].bench(against="stock", seconds=0.05)
            if not found["agrees"]:
                raise ValueError(f"{key}: the outputs differ from those of stock tract")
            own["engine_ms"].append(found["sparse_ms"])
            own["stock_ms"].append(found["stock_ms"])
            print(file.resolve(), file=other.stdin, flush=True)
            own["onnxruntime_ms"].append(float(other.stdout.readline()))
        print(f"round {number + 1} of {ROUNDS}", flush=True)
    other.stdin.close()
    other.wait()
    for key in files:
        record: Record = {"run": json.loads(key)}
        record |= {name: round(min(values), 5) for name, values in taken[key].items()}
        record |= {
            "target": sessions[key].target,
            "cpu": cpu(),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        }
        runs.append(record, FILE)
