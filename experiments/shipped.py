"""Trained networks for tests and benches, with pictures to run them on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from . import data, runs, tables
from .runs import Run

FOLDER = Path(__file__).parent / "networks"
NAMES = {
    "dense": "dense",
    "4x4, 30 %, rearranged": "4x4-30",
    "4x4, 50 %, rearranged": "4x4-50",
    "2x1, 80 %, rearranged": "2x1-80",
    "4x1, 80 %, rearranged": "4x1-80",
}
LICENCE = "Pictures of Fashion-MNIST, (c) 2017 Zalando SE, MIT licence; changed as experiments/data.py says."


def write(file_of: Callable[[Run], Path]) -> None:
    """Writes networks of seed 1, what is known of them in their metadata, their scores, and the pictures."""
    FOLDER.mkdir(exist_ok=True)
    pictures, classes = data.test("harder")
    np.save(FOLDER / "pictures.npy", pictures[: data.SHOWN, None])
    np.save(FOLDER / "classes.npy", classes[: data.SHOWN].astype(np.uint8))
    done = runs.read()
    said = []
    for row in (*tables.TABLES["M"].rows, *tables.TABLES["T6"].rows):
        name, run = NAMES.get(row.label), row.run.seeded(1)
        record = done.get(run.key())
        file = file_of(run)
        if (
            name is None
            or record is None
            or not file.exists()
            or any(entry["name"] == name for entry in said)
        ):
            continue
        scores = np.load(file.with_suffix(".npy"))
        right = int((scores.argmax(1) == classes[: data.SHOWN]).sum())
        model = onnx.load(file)
        known = {
            "accuracy": f"{record['accuracy']} % of 10000 test pictures",
            "right": f"{right} of {data.SHOWN} in pictures.npy",
            "recipe": json.dumps(record["run"]),
            "data": "Fashion-MNIST, harder twin; input: pictures / 255",
            "multiply_adds": str(record["multiply_adds"]),
            "torch": record["torch"],
        }
        del model.metadata_props[:]
        for key, value in known.items():
            model.metadata_props.add(key=key, value=value)
        onnx.save(model, FOLDER / f"{name}.onnx")
        np.save(FOLDER / f"{name}.scores.npy", scores)
        said.append({"name": name, "accuracy": record["accuracy"], "right": right})
    (FOLDER / "networks.json").write_text(json.dumps({"licence": LICENCE, "networks": said}, indent=1) + "\n")
    print(f"{len(said)} networks in {FOLDER}")
