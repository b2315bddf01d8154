"""`inspect`, `prune`, `masks`, `convert`, `zoo`, and the command line."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tract_sparse
from conftest import agree, noise

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
numpy_helper = pytest.importorskip("onnx.numpy_helper")


def weights_of(model):
    """Arrays by name."""
    graph = onnx.load_from_string(model).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def test_pruning_is_found_again(dense, tmp_path):
    path = tmp_path / "pruned.onnx"
    told = []
    report = tract_sparse.prune(
        dense, path, conv1x1="4x4:0.6", dwconv3x3="3:9", exclude=["conv1"], progress=lambda *said: told.append(said)
    )
    assert ("pruning", None) in told
    pruned = {layer["name"]: layer for layer in report["layers"] if not layer["skipped"]}
    assert 0.3 < report["density"] < 0.6 and report["rearranged"] is None and "model" not in report
    inspected = tract_sparse.inspect(path, sparse="always")
    for layer in inspected["layers"]:
        wanted = pruned.get(layer["layer"])
        if wanted is not None:
            assert layer["zeros"].startswith(wanted["structure"]), (layer, wanted)
            assert layer["density"] == pytest.approx(wanted["density"], abs=1e-6)
    assert inspected["layers_sparse"] >= len(pruned)
    assert "dw2" in inspected["text"]
    session = tract_sparse.Session(path)
    assert session.compare()["agrees"]


def test_recipes_are_keywords_or_text(dense):
    keywords = tract_sparse.prune(dense, ratio=0.5, scope="global", layer=[{"name": "dw*", "structure": "3:9"}])
    text = 'ratio = 0.1\nscope = "global"\n[[layer]]\nname = "dw*"\nstructure = "3:9"\n'
    written = tract_sparse.prune(dense, recipe=text, ratio=0.5)
    assert keywords["model"] == written["model"]
    props = {prop.key: prop.value for prop in onnx.load_from_string(written["model"]).metadata_props}
    assert tract_sparse.prune(dense, recipe=props["tract-sparse.recipe"])["model"] == written["model"]


def test_wrong_recipes_are_named(dense, tmp_path):
    output = tmp_path / "out.onnx"
    for entries, words in [
        ({"ratio": 1.5}, "ratio"),
        ({"conv1x2": "4x4"}, "conv1x2"),
        ({"conv1x1": "3:9"}, "conv1x1.*3:9"),
        ({"dwconv3x3": "four"}, "four"),
        ({}, "nothing says how much"),
        ({"ratio": 0.5, "include": ["no*"]}, "no\\*.*matches none"),
        ({"ratio": 0.5, "method": "l2"}, 'method="l2"'),
        ({"ratio": 0.5, "method": "obc"}, "calibrate"),
        ({"ratio": 0.5, "rearrange": True, "search_seconds": -1.0}, "search_seconds=-1"),
        ({"ratio": 0.5, "calibrate": []}, "calibrate: no arrays"),
        ({"ratio": 0.5, "calibrate": np.zeros((1, 3, 8, 8), np.float32)}, "calibrate, array 0.*8, 8.*32, 32"),
        ({"ratio": 0.5, "calibrate": np.full((1, 3, 32, 32), np.nan, np.float32)}, "calibrate, array 0.*NaN"),
    ]:
        with pytest.raises(ValueError, match=words):
            tract_sparse.prune(dense, output, **entries)
    with pytest.raises(TypeError, match="calibrate, array 0.*float64"):
        tract_sparse.prune(dense, output, ratio=0.5, calibrate=np.zeros((1, 3, 32, 32)))
    with pytest.raises(FileNotFoundError):
        tract_sparse.prune(tmp_path / "nothing.onnx", output, ratio=0.5)
    with pytest.raises(OSError):
        tract_sparse.prune(dense, tmp_path / "no" / "folder.onnx", ratio=0.5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["l1", "wanda", "obc"])
def test_calibration_takes_arrays(method):
    model = tract_sparse.zoo("resnet-20", hw=16, width=0.5)
    inputs = np.random.default_rng(1).standard_normal((4, 3, 16, 16)).astype(np.float32)
    one = tract_sparse.prune(model, ratio=0.5, conv3x3="4x1", calibrate=inputs, method=method)
    several = tract_sparse.prune(model, ratio=0.5, conv3x3="4x1", calibrate=iter(np.split(inputs, 4)), method=method)
    assert one["model"] == several["model"]
    plain = tract_sparse.prune(model, ratio=0.5, conv3x3="4x1")
    assert (one["model"] == plain["model"]) == (method == "l1")
    if method == "obc":
        assert tract_sparse.prune(model, ratio=0.5, conv3x3="4x1", calibrate=inputs)["model"] == one["model"]


def test_rearranged_networks_give_the_same_answers_and_keep_more(dense):
    wanted = {"conv1x1": "4x4:0.5", "search_seconds": 1.0}
    found = tract_sparse.prune(dense, rearrange=True, **wanted)["rearranged"]
    assert found["proof"] < 1e-3 and found["channels"] > 0
    assert sum(layer["after"] - layer["before"] for layer in found["layers"]) > 0


def test_symbols_of_a_model_get_values_to_rearrange_it(tmp_path):
    path = tmp_path / "network.onnx"
    tract_sparse.zoo("resnet-20", path, width=0.5, batch="N")
    wanted = {"ratio": 0.5, "conv1x1": "4x4", "conv3x3": "4x4", "search_seconds": 0.2}
    with pytest.raises(ValueError, match="inputs={"):
        tract_sparse.prune(path, rearrange=True, **wanted)
    (name,) = (value.name for value in tract_sparse.Session(path).get_inputs())
    shape = {name: [1, 3, 32, 32]}
    assert tract_sparse.prune(path, rearrange=True, inputs=shape, **wanted)["rearranged"]["layers"]



def test_an_interrupt_ends_pruning_and_leaves_nothing(dense, tmp_path):
    program = (
        "import signal, sys, tract_sparse\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what a shell starts in the background ignores it
        "said = lambda text, done: print(text, flush=True)\n"
        "tract_sparse.prune(sys.argv[1], sys.argv[2], ratio=0.5, rearrange=True, search_seconds=60.0, progress=said)\n"
    )
    output = tmp_path / "out.onnx"
    command = [sys.executable, "-c", program, str(dense), str(output)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("rearranging")
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in error and time.monotonic() - started < 10
    assert list(tmp_path.iterdir()) == []


def test_masks_are_what_prune_leaves():
    generator = np.random.default_rng(3)
    for recipe in [
        {"ratio": 0.7},
        {"ratio": 0.7, "scope": "global"},
        {"ratio": 0.8, "conv1x1": "2x1", "dwconv3x3": "3:9+0.25", "conv3x3": "5:9:0.5", "fc": "unstructured"},
        {"ratio": 0.5, "conv1x1": "2:4", "conv3x3": "4x4", "exclude": ["fc*"]},
    ]:
        network = str(generator.choice(["mobilenet-v1", "mobilenet-v2", "resnet-20"]))
        model = tract_sparse.zoo(network, width=0.25, hw=32, seed=int(generator.integers(1000)))
        weights, layers = weights_of(model), []
        for node in onnx.load_from_string(model).graph.node:
            if node.op_type in ("Conv", "Gemm"):
                groups = next((a.i for a in node.attribute if a.name == "group"), 1)
                layers.append((node.name, node.input[1], groups))
        given = [(name, weights[tensor], groups) for name, tensor, groups in layers]
        pruned = weights_of(tract_sparse.prune(model, **recipe)["model"])
        masks = tract_sparse.masks(given, **recipe)
        assert [mask["name"] for mask in masks] == [name for name, _, _ in layers]
        for mask, (_, tensor, _) in zip(masks, layers):
            keep = mask.get("mask", np.array(True))
            assert ("mask" in mask) != ("skipped" in mask)
            assert np.array_equal(weights[tensor] * keep, pruned[tensor]), (network, recipe, mask["name"])
        assert any("mask" in mask for mask in masks)


def test_masks_grow_with_the_share():
    layers = [("a", np.random.default_rng(1).standard_normal((16, 16, 1, 1)).astype(np.float32), 1)]
    zeros = [
        1 - tract_sparse.masks(layers, ratio=0.8, conv1x1="unstructured", share=share)[0]["mask"].mean()
        for share in (0.0, 0.25, 0.5, 1.0)
    ]
    assert zeros == pytest.approx([0.0, 0.2, 0.4, 0.8], abs=0.002)
    with pytest.raises(ValueError, match="share=1.5"):
        tract_sparse.masks(layers, ratio=0.8, share=1.5)
    with pytest.raises(TypeError, match='layer "a".*float64'):
        tract_sparse.masks([("a", np.zeros((4, 4)), 1)], ratio=0.5)
    with pytest.raises(ValueError, match='layer "a".*shape'):
        tract_sparse.masks([("a", np.zeros(4, np.float32), 1)], ratio=0.5)


def test_a_mask_of_one_layer():
    weights = np.arange(1, 33, dtype=np.float32).reshape(4, 8)
    assert np.array_equal(tract_sparse.mask(weights, "unstructured:0.5"), weights > 16)
    assert np.array_equal(tract_sparse.mask(weights, "4x1:0.25"), np.tile(np.arange(8) >= 2, (4, 1)))
    assert tract_sparse.mask(weights, "2:4").sum() == 16
    kernels = np.random.default_rng(1).standard_normal((16, 1, 3, 3)).astype(np.float32)
    mask = tract_sparse.mask(kernels, "3:9", groups=16)
    assert mask.shape == kernels.shape and (mask.sum((1, 2, 3)) == 6).all()
    for zeros, words in [("4x4", "no ratio"), ("5:9", "5:9 is for 3x3"), ("4x4:2", "4x4:2"), ("stripes", "stripes")]:
        with pytest.raises(ValueError, match=words):
            tract_sparse.mask(weights, zeros)
    with pytest.raises(ValueError, match="groups=3"):
        tract_sparse.mask(weights, "4x4:0.5", groups=3)
    with pytest.raises(ValueError, match="weights of shape"):
        tract_sparse.mask(weights[0], "4x4:0.5")


def test_archives_run_as_the_files_they_are_made_of(pruned, tmp_path):
    path = tmp_path / "pruned.nnef.tgz"
    written = tract_sparse.convert(pruned, path)
    assert written["compact"] and written["bytes"] == path.stat().st_size < written["plain_bytes"]
    ours, file = tract_sparse.Session(path), tract_sparse.Session(pruned)
    values = noise(file)
    assert [value.name for value in ours.get_inputs()] == ["input"]
    agree(ours.run(None, values), file.run(None, values))
    assert ours.compare(values)["agrees"]
    plain = tract_sparse.convert(pruned, tmp_path / "plain.nnef.tar", plain=True)
    assert not plain["compact"] and plain["bytes"] == plain["plain_bytes"]
    with pytest.raises(ValueError, match="must end in .nnef.tgz"):
        tract_sparse.convert(pruned, tmp_path / "pruned.zip")
    with pytest.raises(FileNotFoundError):
        tract_sparse.convert(tmp_path / "nothing.onnx", path)
    with pytest.raises(ValueError, match="keeps the shapes"):
        tract_sparse.Session(path, inputs={"input": (1, 3, 64, 64)})


def test_networks_are_the_same_every_time(tmp_path):
    path = tmp_path / "network.onnx"
    settings = {"conv3x3": "5:9", "fc": "4x4:0.5", "seed": 7, "batch": 2, "hw": 16, "width": 0.5}
    assert tract_sparse.zoo("resnet-20", path, **settings) is None
    assert tract_sparse.zoo("resnet_20", **settings) == path.read_bytes()
    for wrong, words in [
        ({"network": "alexnet"}, "alexnet.*mobilenet-v1"),
        ({"network": "resnet-20", "hw": 0}, "0x0"),
        ({"network": "resnet-20", "conv1x1": "4x4"}, "conv1x1 = 4x4: no ratio"),
        ({"network": "resnet-20", "batch": "N M"}, "N M"),
        ({"network": "resnet-20", "fc": "3:9"}, "fc = 3:9"),
    ]:
        with pytest.raises(ValueError, match=words):
            tract_sparse.zoo(**wrong)


def test_inspect_measures_and_tells(pruned):
    told = []
    found = tract_sparse.inspect(pruned, measure=True, progress=lambda text, done: told.append(done))
    assert told == sorted(told) and len(told) == len(found["layers"])
    assert all(layer["measured_sparse_ms"] > 0 for layer in found["layers"] if layer["chosen"])
    assert tract_sparse.inspect(pruned, sparse="never")["layers_sparse"] == 0


def run(*line, **options):
    command = [sys.executable, "-m", "tract_sparse", *map(str, line)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_the_module_is_the_command_line(pruned, tmp_path):
    shown = run(pruned, "inspect")
    assert shown.returncode == 0 and "layers run sparse" in shown.stdout
    assert run("--version").stdout.split() == ["tract-sparse", tract_sparse.__version__]
    assert run(pruned, "compare", "--tolerance", "0").returncode == 3
    wrong = run("no", "such", "command")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error:")
    missing = run(tmp_path / "nothing.onnx", "inspect")
    assert missing.returncode == 1 and "nothing.onnx" in missing.stderr
    program = Path(sys.executable).with_name("tract-sparse")
    assert subprocess.run([program, "--version"], capture_output=True, text=True).stdout == run("--version").stdout
