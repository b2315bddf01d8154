"""Accuracy of the networks for tests in f32, half precision and int8: `python3 -m experiments precision`."""

from __future__ import annotations

import datetime
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Optional

import numpy as np

from . import data, latency, runs, shipped
from .runs import Record

FILE = runs.RESULTS / "precision.jsonl"
#: Pictures to calibrate on, of those that networks are trained with.
CALIBRATED_ON = 512
QUANTISE = Path(__file__).parent.parent / "scripts" / "rivals.py"

#: Right answers of onnxruntime on a file, in a Python that may be another one than this.
ORT = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.x64quantprecision", "1")  # its products saturate on processors without VNNI
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
pictures, classes = numpy.load(sys.argv[2]), numpy.load(sys.argv[3])
name = session.get_inputs()[0].name
scores = (session.run(None, {name: picture[None]})[0][0] for picture in pictures)
print(sum(int(score.argmax()) == answer for score, answer in zip(scores, classes)))
"""


def right(session: object, pictures: np.ndarray, classes: np.ndarray) -> int:
    """How many pictures of [n, 1, side, side] a session gives their classes."""
    name = session.get_inputs()[0].name  # type: ignore[attr-defined]
    scores = (session.run(None, {name: picture[None]})[0][0] for picture in pictures)  # type: ignore[attr-defined]
    return sum(int(score.argmax()) == answer for score, answer in zip(scores, classes))


def measure(quick: bool = False) -> list[Record]:
    """Classifies all test pictures with each network in every type; files of int8 are made by onnxruntime's quantiser."""
    from tract_sparse import Session

    from .training import cpu

    pictures, classes = data.test("harder", quick)
    given = [part[:, None].astype(np.float32) / 255 for part in (pictures, data.epoch("harder", 0, quick)[0])]
    pictures, calibrated = given[0], given[1][:CALIBRATED_ON]
    records = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        np.save(folder / "pictures.npy", pictures)
        np.save(folder / "classes.npy", classes)
        for name in shipped.NAMES:
            file, int8 = shipped.FOLDER / f"{name}.onnx", folder / f"{name}.onnx"
            whole = Session(str(file))
            np.savez(folder / "calibrated.npz", **{whole.get_inputs()[0].name: calibrated[:, None]})
            command = [str(QUANTISE), "quantise", str(file), str(int8), str(folder / "calibrated.npz")]
            subprocess.run([latency.ORT_PYTHON, *command], check=True)
            files = (int8, folder / "pictures.npy", folder / "classes.npy")
            ort = [latency.ORT_PYTHON, "-c", ORT, *map(str, files)]
            counts = {
                "f32": right(whole, pictures, classes),
                "half": right(Session(str(file), sparse="dense", precision="half"), pictures, classes),
                "int8": right(Session(str(int8), sparse="dense"), pictures, classes),
                "onnxruntime_int8": int(subprocess.run(ort, check=True, capture_output=True, text=True).stdout),
            }
            accuracies = {what: round(100 * int(count) / len(classes), 2) for what, count in counts.items()}
            sizes = {"bytes": file.stat().st_size, "int8_bytes": int8.stat().st_size}
            record = {"network": name, **accuracies, **sizes, "pictures": len(classes), "cpu": cpu()}
            records.append({**record, "date": datetime.date.today().isoformat()})
            print(name, accuracies, flush=True)
    return records


def write() -> None:
    """Measures, and keeps what was found."""
    lines = "".join(json.dumps(record) + "\n" for record in measure())
    half = FILE.with_suffix(".part")
    half.write_text(lines)
    half.replace(FILE)


def text() -> Optional[str]:
    """A table in Markdown; None if nothing was measured."""
    records = list(runs.lines(FILE))
    if not records:
        return None
    rows = []
    for record in records:
        cells = [f"{record['f32']:.2f}"]
        for what in ("half", "int8", "onnxruntime_int8"):
            cells.append(f"{record[what]:.2f} ({record[what] - record['f32']:+.2f})")
        rows.append(f"| {record['network']} | " + " | ".join(cells) + " |")
    first = records[0]
    said = (
        f"Accuracy of the networks for tests (`networks/`) on {first['pictures']} pictures, by this engine with `dense` on {first['cpu']}, "
        f"{first['date']}; int8 by onnxruntime's `quantize_static` (QDQ, u8, per channel, calibrated on {CALIBRATED_ON} training pictures), "
        "and the same files in onnxruntime."
    )
    head = "| network | f32 | half | int8 | int8 in onnxruntime |\n|---|---|---|---|---|"
    return f"### Types\n\n{said}\n\n{head}\n" + "\n".join(rows)
