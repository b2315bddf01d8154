"""Every kind of run on a few pictures; tables drawn from made-up results."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tract_sparse

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments import claims, data, drawing, latency, networks, precision, runs, shipped, tables, training  # noqa: E402
from experiments.runs import Run, Zeros  # noqa: E402

needs_pictures = pytest.mark.skipif(not data.SOURCE.is_dir(), reason="dataset-fashion-mnist is not installed")
SMALL = dataclasses.replace(Run(), width=0.25, dense_epochs=1, epochs=1)
KINDS = {
    "dense": SMALL,
    "2x1": dataclasses.replace(SMALL, zeros=Zeros(conv1x1="2x1", ratio=0.8)),
    "4x4, rearranged": dataclasses.replace(SMALL, zeros=Zeros(conv1x1="4x4", ratio=0.5), rearrange=True),
    "3:9, distilled": dataclasses.replace(SMALL, zeros=Zeros(dwconv3x3="3:9"), distill=0.5),
    "v2": dataclasses.replace(SMALL, network="mobilenet-v2", zeros=Zeros(dwconv3x3="3:9")),
    "5:9": dataclasses.replace(SMALL, zeros=Zeros(dwconv3x3="5:9")),
    "v3": dataclasses.replace(SMALL, network="mobilenet-v3", zeros=Zeros(conv1x1="2x1", ratio=0.5)),
    "resnet": dataclasses.replace(SMALL, network="resnet-20", zeros=Zeros(conv3x3="5:9:0.3", exclude=("0",))),
    "regrown": dataclasses.replace(SMALL, network="mlp", data="plain", g2g="regrow"),
}


@needs_pictures
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_a_few_pictures(kind):
    training.prepare_torch()
    record, model = training.record(KINDS[kind], quick=True)
    assert 0 <= record["accuracy"] <= 100
    full = networks.multiply_adds(
        networks.made(KINDS[kind].network, KINDS[kind].width, 1), training.example(KINDS[kind])
    )
    assert record["multiply_adds"] <= full
    assert (record["multiply_adds"] < full) == (kind != "dense")


@needs_pictures
@pytest.mark.parametrize("method", ["fpgm", "apoz", "mean"])
def test_filters_are_taken_out(method):
    pytest.importorskip("torch_pruning", reason="torch-pruning is not installed")
    run = dataclasses.replace(SMALL, filters=(method, 0.3))
    record, _ = training.record(run, quick=True)
    dense = {"multiply_adds": networks.multiply_adds(networks.made(SMALL.network, SMALL.width, 1), training.example(SMALL))}
    assert record["multiply_adds"] < 0.8 * dense["multiply_adds"]


@needs_pictures
def test_networks_keep_their_accuracy_in_other_types():
    code = "import onnx, onnxruntime.quantization"
    if subprocess.run([latency.ORT_PYTHON, "-c", code], capture_output=True).returncode:
        pytest.skip("onnxruntime is not installed: TRACT_SPARSE_ORT_PYTHON may say where it is")
    training.prepare_torch()  # which has this process flush denormal numbers: lanes of two weights may look like such
    records = precision.measure(quick=True)
    assert [record["network"] for record in records] == list(shipped.NAMES)
    for record in records:
        # of 512 pictures one is 0.2 points; quantising moves the answers nearest to the border
        assert abs(record["half"] - record["f32"]) <= 1.0, record
        assert abs(record["int8"] - record["f32"]) <= 3.0, record
        assert abs(record["int8"] - record["onnxruntime_int8"]) <= 0.4, record
        # weights take a quarter; nodes, scales and names take as much as before and more
        assert record["int8_bytes"] < 0.5 * record["bytes"], record


def test_keys_tell_runs_apart_and_name_what_is_unusual():
    assert json.loads(Run().key()) == {"seed": 1}
    for table in tables.TABLES.values():
        assert len({row.run.key() for row in table.rows}) == len(table.rows)
        assert table.base in [row.label for row in table.rows]


def test_a_table_of_what_is_there():
    done = {}
    for seed, dense, pruned in ((1, 80.0, 79.0), (2, 82.0, 81.5)):
        for run, accuracy in ((Run(seed), dense), (tables.blocks("4x4", 0.5).seeded(seed), pruned)):
            done[run.key()] = {"run": json.loads(run.key()), "accuracy": accuracy, "multiply_adds": 1_000_000}
    text = drawing.table_text("M", tables.TABLES["M"], done, {})
    assert "| dense | 1.00 M | 81.00 ± 1.41 (2 of 3 runs) |  |" in text
    assert "| 4x4, 50 % | 1.00 M | 80.25 ± 1.77 (2 of 3 runs) | -0.75 ± 0.35 |" in text
    assert "runs are missing" in text


def test_rows_are_beside_the_dense_networks_that_the_table_names():
    table = dataclasses.replace(
        tables.TABLES["L"], base="dense, distilled, higher rate", narrower="dense, same recipe"
    )
    known = {
        "dense": (8.0, 90.0),
        "dense, distilled, higher rate": (8.0, 70.0),
        "dense, width 0.5": (2.0, 80.0),
        "dense, width 0.5, distilled, higher rate": (2.0, 60.0),
        "2x1, 80 %, all that helped": (4.0, 68.0),
    }
    done = {}
    for row in table.rows:
        if row.label in known:
            amount, accuracy = known[row.label]
            done[row.run.key()] = {
                "run": json.loads(row.run.key()),
                "accuracy": accuracy,
                "multiply_adds": amount * 1e6,
            }
    text = drawing.table_text("L", table, done, {})
    assert "| 2x1, 80 %, all that helped | 4.00 M | 68.00 (1 of 3 runs) | -2.00 | +3.00 |" in text
    assert "| dense | 8.00 M | 90.00 (1 of 3 runs) | +20.00 |  |" in text


def timed(run: Run, engine: float, machine: str = "one", day: int = 1) -> dict:
    return {
        "run": json.loads(run.key()),
        "engine_ms": engine,
        "stock_ms": 0.3,
        "onnxruntime_ms": 0.1,
        "target": "avx2",
        "cpu": machine,
        "date": f"2026-12-{day:02}",
    }


def test_speeds_are_those_of_the_networks():
    rows = {row.label: row.run for row in tables.TABLES["M"].rows}
    records = [timed(rows["dense"], 0.2), timed(rows["2x1, 80 %"].seeded(2), 0.08)]
    text = claims.speeds("aimed at", "reached", latency.Times(records))
    assert "2.2 times as fast as its own dense network | 2.50 times | yes |" in text
    assert "faster than onnxruntime's dense run | 1.25 times | yes |" in text
    records.append(timed(rows["dense"], 0.16, day=2))
    assert "| 2.00 times | no |" in claims.speeds("aimed at", "reached", latency.Times(records))


def test_times_of_a_table_are_of_one_machine():
    wanted = [row.run for row in tables.TABLES["M"].rows][:3]
    most = [timed(run, 0.1, "most") for run in wanted[:2]]
    newer = [timed(run, 0.2, "newer", day=2) for run in wanted[:2]]
    found = latency.Times([*most, *newer, timed(latency.FLOOR, 0.01, "newer")]).of(wanted)
    assert set(found) == {wanted[0].key(), wanted[1].key(), latency.FLOOR.key()}
    assert latency.named(found) == "newer (avx2)"
    found = latency.Times([*newer, *most, timed(wanted[2], 0.1, "most")]).of(wanted)
    assert [record["engine_ms"] for record in found.values()] == [0.1, 0.1, 0.1]
    assert latency.Times(most).of([latency.FLOOR]) == {}


def test_runs_are_read_as_they_are_written():
    for table in tables.TABLES.values():
        for row in table.rows:
            run = row.run.seeded(3)
            assert Run.read(json.loads(run.key())) == run


def test_networks_to_time_are_of_any_seed(tmp_path: Path):
    rows = {row.label: row.run for row in tables.TABLES["L"].rows}

    def file_of(run: Run) -> Path:
        return tmp_path / f"{run.name()}.onnx"

    wide = rows["2x1, 80 %, all that helped"]
    assert latency._network(wide, file_of) == (wide, shipped.FOLDER / "2x1-80.onnx")
    other = Run(zeros=runs.Zeros(conv1x1="2x1", ratio=0.8))
    assert latency._network(other, file_of) is None
    file_of(other.seeded(2)).touch()
    assert latency._network(other, file_of) == (other.seeded(2), file_of(other.seeded(2)))
    run, file = latency._network(rows["dense, width 0.25"], file_of)
    assert run == rows["dense, width 0.25"] and file.exists()


def test_shapes_are_compared_as_far_as_there_are_runs():
    assert drawing.shapes_text({}) == "No network of table W has been trained with zeros yet."
    rows = {row.label: row.run for row in tables.TABLES["W"].rows}
    known = {"dense": (2.0, 64.0), "dense, width 0.25": (0.5, 56.0), "2x1, 80 %": (1.0, 61.0), "4x4, 80 %": (1.0, 58.5)}
    done = {rows[label].key(): {"multiply_adds": amount * 1e6, "accuracy": right} for label, (amount, right) in known.items()}
    text = drawing.shapes_text(done)
    assert "| | 2x1 | narrower, as many multiply-adds | 4x4 |" in text
    assert "| lost | 3.0 | 4.0 | 5.5 |" in text


def test_results_are_whole_lines():
    for record in runs.lines(runs.RUNS):
        assert {"run", "accuracy", "multiply_adds", "torch", "cpu", "date", "seconds"} <= set(record)


def test_the_engine_scores_trained_networks_as_pytorch_did():
    pictures = np.load(shipped.FOLDER / "pictures.npy")
    classes = np.load(shipped.FOLDER / "classes.npy")
    for network in json.loads((shipped.FOLDER / "networks.json").read_text())["networks"]:
        session = tract_sparse.Session(shipped.FOLDER / f"{network['name']}.onnx")
        given = (picture[None].astype(np.float32) / 255 for picture in pictures)
        scores = np.concatenate([session.run(None, {"picture": picture})[0] for picture in given])
        assert int((scores.argmax(1) == classes).sum()) == network["right"]
        expected = np.load(shipped.FOLDER / f"{network['name']}.scores.npy")
        np.testing.assert_allclose(scores, expected, atol=1e-3, rtol=1e-4)
