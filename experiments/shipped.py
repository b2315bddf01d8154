"""Trained networks for tests and benches, with pictures to run them on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import numpy as np
import onnx

from . import data, runs, tables
from .runs import Run

FOLDER = Path(__file__).parent / "networks"
#: Of each network the table and the row that it is of.
NAMES = {
    "dense": ("L", "dense, distilled, higher rate"),
    "4x4-30": ("M", "4x4, 30 %, rearranged"),
    "4x4-50": ("L", "4x4, 50 %, all that helped"),
    "2x1-80": ("L", "2x1, 80 %, all that helped"),
}
LICENCE = "Pictures of Fashion-MNIST, (c) 2017 Zalando SE, MIT licence; changed as experiments/data.py says."


def _run(name: str) -> Run:
    """What a network is of: a row of a table, with seed 1."""
    table, label = NAMES[name]
    return next(row.run for row in tables.TABLES[table].rows if row.label == label).seeded(1)


def kept(run: Run) -> Optional[Path]:
    """The network of a run, if it is one of these."""
    return next((FOLDER / f"{name}.onnx" for name in NAMES if _run(name) == run), None)


def write(file_of: Callable[[Run], Path]) -> None:
    """Writes networks of seed 1, what is known of them in their metadata, their scores, and the pictures.

    Those that have not been trained here stay as they are.
    """
    FOLDER.mkdir(exist_ok=True)
    pictures, classes = data.test("harder")
    shown = FOLDER / "pictures.npy"
    if shown.exists() and not np.array_equal(np.load(shown), pictures[: data.SHOWN, None]):
        raise ValueError(f"{shown} has other pictures than are made here: take the folder away, and train all networks anew")
    np.save(shown, pictures[: data.SHOWN, None])
    np.save(FOLDER / "classes.npy", classes[: data.SHOWN].astype(np.uint8))
    listed = FOLDER / "networks.json"
    there = json.loads(listed.read_text())["networks"] if listed.exists() else []
    known = {entry["name"]: entry for entry in there}
    done = runs.read()
    for name, (table, label) in NAMES.items():
        run = _run(name)
        record, file = done.get(run.key()), file_of(run)
        if record is None or not file.exists():
            print(f"{name}: not trained here: python3 -m experiments train {table} --seeds 1 --networks --rows '{label}'")
            continue
        scores = np.load(file.with_suffix(".npy"))
        right = int((scores.argmax(1) == classes[: data.SHOWN]).sum())
        model = onnx.load(file)
        said = {
            "accuracy": f"{record['accuracy']} % of 10000 test pictures",
            "right": f"{right} of {data.SHOWN} in pictures.npy",
            "recipe": json.dumps(record["run"]),
            "data": "Fashion-MNIST, harder twin; input: pictures / 255",
            "multiply_adds": str(record["multiply_adds"]),
            "torch": record["torch"],
        }
        del model.metadata_props[:]
        for key, value in said.items():
            model.metadata_props.add(key=key, value=value)
        onnx.save(model, FOLDER / f"{name}.onnx")
        np.save(FOLDER / f"{name}.scores.npy", scores)
        known[name] = {"name": name, "accuracy": record["accuracy"], "right": right}
    entries = [known[name] for name in NAMES if name in known]
    listed.write_text(json.dumps({"licence": LICENCE, "networks": entries}, indent=1) + "\n")
    print(f"{len(entries)} networks in {FOLDER}")
