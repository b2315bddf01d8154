"""`Session`: the answers of onnxruntime, and clear words for what cannot be run."""

import threading
import types

import numpy as np
import pytest
import tract_sparse
from conftest import agree, models, noise

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def reference(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


NETWORKS = ["mobilenet-v1", "mobilenet-v2", "mobilenet-v3-large", "efficientnet-lite0", "resnet-18", "resnet-20"]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("sparse", ["auto", "always", "never"])
def test_built_in_networks_agree_with_onnxruntime(network, sparse, tmp_path):
    path = tmp_path / "network.onnx"
    tract_sparse.zoo(network, path, conv1x1="4x4:0.7", hw=32, width=0.5, batch=2)
    ours, theirs = tract_sparse.Session(path, sparse=sparse), reference(path)
    values = noise(theirs)
    agree(ours.run(None, values), theirs.run(None, values))
    running = [layer for layer in ours.report() if layer["chosen"]]
    assert sparse == "auto" or bool(running) == (sparse == "always")


if not models():

    @pytest.mark.skip(reason="TRACT_SPARSE_MODELS does not say where trained networks are")
    def test_trained_networks_agree_with_onnxruntime():
        pass

else:

    @pytest.mark.parametrize("path", models(), ids=lambda path: path.stem)
    @pytest.mark.parametrize("threads", [1, 2])
    def test_trained_networks_agree_with_onnxruntime(path, threads):
        theirs = reference(path)
        values = {theirs.get_inputs()[0].name: np.load(path.parent / "golden" / f"{path.stem}.input.npy")}
        ours = tract_sparse.Session(path, threads=threads)
        agree(ours.run(None, values), theirs.run(None, values))
        assert [value.name for value in ours.get_outputs()] == [value.name for value in theirs.get_outputs()]
        assert [value.type for value in ours.get_inputs()] == [value.type for value in theirs.get_inputs()]
        assert ours.compare(values)["agrees"]


def test_names_shapes_and_types_are_those_of_onnxruntime(tmp_path):
    path = tmp_path / "network.onnx"
    tract_sparse.zoo("resnet-20", path, batch="N")
    for ours, theirs in zip(
        (tract_sparse.Session(path).get_inputs(), tract_sparse.Session(path).get_outputs()),
        (reference(path).get_inputs(), reference(path).get_outputs()),
    ):
        assert [(v.name, v.shape, v.type) for v in ours] == [(v.name, v.shape, v.type) for v in theirs]
    assert tract_sparse.Session(path).get_inputs()[0].shape == ["N", 3, 32, 32]


def test_symbols_take_any_size(tmp_path):
    path = tmp_path / "network.onnx"
    tract_sparse.zoo("resnet-20", path, conv3x3="5:9", batch="N")
    ours, theirs = tract_sparse.Session(path), reference(path)
    fixed = tract_sparse.Session(path, inputs={"input": (3, 3, 32, 32)})
    assert fixed.get_inputs()[0].shape == [3, 3, 32, 32]
    assert fixed.get_outputs()[0].shape == [3, 10]
    for batch in (1, 3):
        values = {"input": np.random.default_rng(batch).standard_normal((batch, 3, 32, 32)).astype(np.float32)}
        agree(ours.run(None, values), theirs.run(None, values))
    agree(fixed.run(None, values), theirs.run(None, values))


def test_half_precision_is_a_word(pruned):
    with pytest.raises(ValueError, match="precision=.quarter.*f32 or half"):
        tract_sparse.Session(pruned, precision="quarter")
    # plain Rust has half precision on every machine
    half = tract_sparse.Session(pruned, sparse="always", target="scalar", precision="half")
    names = {layer["precision"] for layer in half.report() if layer["chosen"]}
    assert names - {"f32"}, half.report_table()
    assert half.compare()["tolerance"] == 0.3 and half.compare()["agrees"]
    full = tract_sparse.Session(pruned, sparse="always", target="scalar")
    assert full.compare()["tolerance"] == 1e-4
    assert {layer["precision"] for layer in full.report() if layer["chosen"]} == {"f32"}
    found = tract_sparse.inspect(pruned, sparse="always", target="scalar", precision="half")
    assert found["layers_half"] > 0 and found["precision_note"] is None


def test_weights_of_half_the_size(pruned, tmp_path):
    full = tract_sparse.convert(pruned, tmp_path / "full.nnef.tar")
    half = tract_sparse.convert(pruned, tmp_path / "half.nnef.tar", weights="bf16")
    assert full["rounded"] == [] and len(half["rounded"]) > 5 and half["kept"] == []
    assert half["bytes"] < 0.65 * full["bytes"]
    assert tract_sparse.Session(tmp_path / "half.nnef.tar").compare()["agrees"]
    with pytest.raises(ValueError, match="weights.*f32, bf16 or f16"):
        tract_sparse.convert(pruned, tmp_path / "no.nnef.tar", weights="int8")


def test_bytes_are_as_good_as_a_file(pruned):
    ours, file = tract_sparse.Session(pruned.read_bytes()), tract_sparse.Session(str(pruned))
    values = noise(file)
    assert np.array_equal(ours.run(None, values)[0], file.run(None, values)[0])


def test_outputs_are_chosen_by_name(pruned):
    session = tract_sparse.Session(pruned)
    values = noise(session)
    everything = session.run(None, values)
    twice = session.run(["output", "output"], values)
    assert len(twice) == 2
    assert np.array_equal(twice[0], everything[0]) and np.array_equal(twice[1], everything[0])
    assert session.run([], values) == []
    with pytest.raises(ValueError, match="no output is called 'nothing'|no output is called \"nothing\".*output"):
        session.run(["nothing"], values)


def test_outputs_belong_to_the_caller(pruned):
    session = tract_sparse.Session(pruned)
    values = noise(session)
    first = session.run(None, values)[0]
    kept = first.copy()
    session.run(None, noise(session, seed=2))
    assert np.array_equal(first, kept)
    first[:] = 0
    assert np.array_equal(session.run(None, values)[0], kept)


def test_arrays_need_not_be_contiguous(pruned):
    session = tract_sparse.Session(pruned)
    (value,) = noise(session).values()
    expected = session.run(None, {"input": value})[0]
    for same in (np.asfortranarray(value), value[:, :, :, ::-1].copy()[:, :, :, ::-1]):
        assert not same.flags.c_contiguous
        assert np.array_equal(session.run(None, {"input": same})[0], expected)


def test_wrong_inputs_are_named(pruned):
    session = tract_sparse.Session(pruned)
    (value,) = noise(session).values()
    with pytest.raises(TypeError, match=r'"input".*float64.*expected float32'):
        session.run(None, {"input": value.astype(np.float64)})
    with pytest.raises(TypeError, match=r'"input".*not list'):
        session.run(None, {"input": [1.0]})
    with pytest.raises(ValueError, match=r'"input".*\[1, 3, 64, 65\].*\(1, 3, 64, 64\)'):
        session.run(None, {"input": np.zeros((1, 3, 64, 65), np.float32)})
    with pytest.raises(ValueError, match=r'"input".*\[3, 64, 64\]'):
        session.run(None, {"input": np.zeros((3, 64, 64), np.float32)})
    with pytest.raises(ValueError, match='no array for input "input"'):
        session.run(None, {"other": value})
    with pytest.raises(ValueError, match='no input is called "other".*has input'):
        session.run(None, {"input": value, "other": value})


def test_what_is_no_model_is_refused(tmp_path, pruned):
    with pytest.raises(FileNotFoundError):
        tract_sparse.Session(tmp_path / "nothing.onnx")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(pruned.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cut.onnx.*not an ONNX model"):
        tract_sparse.Session(cut)
    with pytest.raises(ValueError, match="no graph"):
        tract_sparse.Session(b"")
    with pytest.raises(TypeError):
        tract_sparse.Session(7)


def test_wrong_settings_are_named(pruned):
    for settings, words in [
        ({"sparse": "sometimes"}, 'sparse="sometimes".*auto, measure'),
        ({"target": "mmx"}, 'target="mmx"'),
        ({"threads": 100_000}, "threads=100000"),
        ({"threads": -1}, "threads=-1"),
        ({"inputs": {"x": (1,)}}, 'no input is called "x".*has input'),
        ({"inputs": {"input": (1, 3)}}, '"input".*2 dimensions.*4'),
        ({"inputs": {"input": 3}}, '"input".*shape'),
        ({"inputs": {"input": (1, 3, 64, 2.5)}}, '"input".*2.5'),
    ]:
        with pytest.raises(ValueError, match=words):
            tract_sparse.Session(pruned, **settings)


def test_any_mapping_gives_inputs(pruned):
    session = tract_sparse.Session(pruned, inputs=types.MappingProxyType({"input": (1, 3, 64, 64)}))
    feed = {"input": np.ones((1, 3, 64, 64), np.float32)}
    (expected,), (got,) = session.run(None, feed), session.run(None, types.MappingProxyType(feed))
    assert np.array_equal(expected, got)
    with pytest.raises(TypeError, match="dict.*list\n.*input_feed"):
        session.run(None, [feed])


def test_threads_share_a_session(pruned):
    session = tract_sparse.Session(pruned)
    values = [noise(session, seed) for seed in range(8)]
    expected = [session.run(None, value)[0] for value in values]
    wrong = []

    def work(at):
        for _ in range(20):
            if not np.array_equal(session.run(None, values[at])[0], expected[at]):
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_python_goes_on_while_a_model_runs():
    session = tract_sparse.Session(tract_sparse.zoo("resnet-18"), sparse="never")
    values = noise(session)
    done, counted = threading.Event(), 0
    thread = threading.Thread(target=lambda: (session.run(None, values), done.set()))
    thread.start()
    while not done.wait(0.001):
        counted += 1
    thread.join()
    assert counted > 2


def test_a_report_is_a_table(pruned):
    session = tract_sparse.Session(pruned)
    report = session.report()
    assert {layer["zeros"] for layer in report if layer["kernel"] == "3x3" and layer["ic"] > 3} == {"3:9"}
    pointwise = [layer for layer in report if layer["zeros"] == "4x4:0.5"]
    assert len(pointwise) == 13
    assert all(layer["chosen"] or layer["reason"] for layer in report)
    assert len({tuple(layer) for layer in report}) == 1, "every layer has the same keys"
    assert "pw14" in session.report_table() and session.target in session.report_table()


def test_targets_agree(pruned):
    best, scalar = tract_sparse.Session(pruned), tract_sparse.Session(pruned, target="scalar", sparse="always")
    assert scalar.target == "scalar"
    agree(scalar.run(None, noise(best)), best.run(None, noise(best)))


def test_bench_and_compare(pruned):
    session = tract_sparse.Session(pruned)
    told = []
    found = session.bench(seconds=0.3, progress=lambda text, done: told.append((text, done)))
    assert found["agrees"] and found["runs"] > 0 and found["stock_ms"] > 0 and found["sparse_ms"] > 0
    assert found["ratio_q1"] <= found["ratio"] <= found["ratio_q3"]
    assert told and all(text == "timing" and 0 <= done <= 1 for text, done in told)
    alone = session.bench(against=None, seconds=0.1, inputs=noise(session))
    assert "stock_ms" not in alone and alone["sparse_ms"] > 0
    compared = session.compare()
    assert compared["agrees"] and [output["name"] for output in compared["outputs"]] == ["output"]
    assert 0 < compared["outputs"][0]["max_abs_diff"] < 1e-2
    assert not session.compare(tolerance=0.0)["agrees"]
    with pytest.raises(ValueError, match='against="onnxruntime"'):
        session.bench(against="onnxruntime")
    with pytest.raises(ValueError, match="seconds=-1"):
        session.bench(seconds=-1.0)


def test_an_exception_of_a_callback_ends_the_work(pruned):
    def stop(text, done):
        raise KeyboardInterrupt

    session = tract_sparse.Session(pruned)
    with pytest.raises(KeyboardInterrupt):
        session.bench(seconds=60.0, progress=stop)
    assert session.compare()["agrees"]


def test_arrays_of_any_layout_are_read(tmp_path):
    path = tmp_path / "network.onnx"
    tract_sparse.zoo("resnet-20", path, width=0.5)
    session = tract_sparse.Session(path)
    (name,) = (value.name for value in session.get_inputs())
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    expected = session.run(None, {name: x})[0]
    packed = np.zeros(x.shape, [("flag", "u1"), ("x", "f4")])
    packed["x"] = x
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.float32, offset=1).reshape(x.shape)
    assert packed["x"].strides[-1] == 5 and not unaligned.flags.aligned
    backwards = x[..., ::-1].copy()[..., ::-1]
    for same in (packed["x"], unaligned, np.asfortranarray(x), backwards):
        assert np.array_equal(session.run(None, {name: same})[0], expected)
    weights = x.reshape(48, 64)
    record = np.zeros(weights.shape, packed.dtype)
    record["x"] = weights
    assert np.array_equal(tract_sparse.mask(record["x"], "2x1:0.5"), tract_sparse.mask(weights, "2x1:0.5"))
