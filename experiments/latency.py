"""Times of exported networks: this engine, stock tract, onnxruntime."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

from . import runs
from .runs import SEEDS, Record, Run

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


Machine = tuple[str, str]


class Times:
    """Records of times, the last of a network on a machine; all that is shown together is of one machine."""

    def __init__(self, records: Sequence[Record]) -> None:
        #: By what was run, as a network of the first seed, and by machine.
        self._records = {(Run.read(record["run"]).seeded(SEEDS[0]).key(), _machine(record)): record for record in records}

    def of(self, wanted: Sequence[Run]) -> dict[str, Record]:
        """Records by the key of a run of the first seed, of the machine that timed most of those that are wanted, or
        of these the last."""
        keys = [run.seeded(SEEDS[0]).key() for run in wanted]
        counted = Counter(machine for key, machine in self._records if key in keys)
        if not counted:
            return {}
        last: dict[Machine, str] = {}
        for (_, machine), record in self._records.items():
            last[machine] = max(last.get(machine, ""), record["date"])
        best = max(counted, key=lambda machine: (counted[machine], last[machine]))
        keys.append(FLOOR.key())
        return {key: record for (key, machine), record in self._records.items() if key in keys and machine == best}


def _machine(record: Record) -> Machine:
    return record["cpu"], record["target"]


def named(times: dict[str, Record]) -> str:
    """The machine of times that belong together."""
    cpu, target = _machine(next(iter(times.values())))
    return f"{cpu} ({target})"


def _network(run: Run, file_of: Callable[[Run], Path]) -> Optional[tuple[Run, Path]]:
    """A network of that row, of the first seed that there is one of: trained here, or kept for tests. Dense ones take the
    same time untrained."""
    from . import shipped

    seeded = [run.seeded(seed) for seed in SEEDS]
    for each in seeded:
        for file in (file_of(each), shipped.kept(each)):
            if file is not None and file.exists():
                return each, file
    return (run, _untrained(run, file_of)) if run.is_dense() else None


def _untrained(run: Run, file_of: Callable[[Run], Path]) -> Path:
    from tract_sparse.torch import export

    from . import networks, training

    file = file_of(run).with_suffix(".untrained.onnx")
    file.parent.mkdir(parents=True, exist_ok=True)
    model = networks.made(run.network, run.width, run.seed)
    export(model, training.example(run), file, input_names=["picture"], output_names=["scores"])
    return file


def read() -> Times:
    return Times(list(runs.lines(FILE)))


def measure(wanted: Sequence[Run], file_of: Callable[[Run], Path]) -> None:
    """Times the networks of runs in turn, in several rounds. Pin it to an idle core.

    A round gives a median; the best round counts, since other programs only make it slower.
    """
    import tract_sparse

    from .training import cpu

    found = [_network(run, file_of) for run in wanted]
    known = [each for each in found if each is not None]
    if len(known) < len(wanted):
        print(f"{len(wanted) - len(known)} of {len(wanted)} networks are not here: `train TABLE --networks` makes them")
    files = {run.key(): file for run, file in known} | {FLOOR.key(): _untrained(FLOOR, file_of)}
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
