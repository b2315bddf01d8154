"""`tract_sparse.torch`: masks as `prune` chooses them, schedules, checkpoints, and files that have the zeros."""

import copy
import io
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tract_sparse

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402
from tract_sparse.torch import Mask, Sparsifier, export, rearrange, structure_loss  # noqa: E402
from tract_sparse.torch._export import exported  # noqa: E402


def separable(ic, oc, stride=1):
    """A depthwise and a 1x1 convolution."""
    return nn.Sequential(
        nn.Conv2d(ic, ic, 3, stride, 1, groups=ic, bias=False),
        nn.BatchNorm2d(ic),
        nn.ReLU(),
        nn.Conv2d(ic, oc, 1, bias=False),
        nn.BatchNorm2d(oc),
        nn.ReLU(),
    )


class Network(nn.Module):
    """Layers of every kind."""

    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.body = nn.Sequential(separable(width, 2 * width), separable(2 * width, 4 * width, 2))
        self.conv = nn.Conv2d(4 * width, 2 * width, 3, 1, 1)
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, x):
        x = self.conv(self.body(torch.relu(self.stem(x))))
        return self.fc(x.mean((2, 3)))


EXAMPLE = (1, 3, 32, 32)


def made(seed=1, width=16):
    torch.manual_seed(seed)
    network = Network(width)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean)
    return network.eval()


def sparsified(network, **settings):
    sparsifier = Sparsifier(network, **settings)
    sparsifier.prepare()
    for _ in range(sparsifier.end):
        sparsifier.step()
    return sparsifier


RECIPES = [
    {},
    {"ratio": 0.5, "scope": "uniform", "conv1x1": "4x4", "dwconv3x3": "3:9", "conv3x3": "5:9:0.5", "fc": "4x1"},
    {"ratio": 0.7, "conv1x1": "unstructured", "conv3x3": "4x4", "fc": "unstructured", "exclude": "body.0*"},
    {"ratio": 0.6, "conv1x1": "2:4", "conv3x3": None, "fc": "2x1", "dwconv3x3": "3:9/4+0.25"},
]
RULES = [
    [{"name": "body.1*", "ratio": 0.3}],
    [{"name": "body.*.3", "structure": "4x4"}, {"name": "body.1.3", "ratio": 0.25}, {"name": "stem", "ratio": 0.1}],
]


@pytest.mark.parametrize("recipe", RECIPES + [{"layers": rules, "scope": s} for rules in RULES for s in ("uniform", "global")])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_masks_are_those_of_prune(recipe, seed):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    numpy_helper = pytest.importorskip("onnx.numpy_helper")
    network = made(seed, width=(8, 12, 16)[seed - 1])
    sparsifier = sparsified(copy.deepcopy(network), **recipe)
    words = {"conv1x1": "2x1", "dwconv3x3": None, "conv3x3": "5:9", "fc": None, "ratio": 0.8, "scope": "global"}
    words.update(recipe)
    words = {name: "none" if value is None else value for name, value in words.items()}
    words["layer"] = words.pop("layers", None)
    if "exclude" in words:
        words["exclude"] = [words["exclude"]]
    model = tract_sparse._tract_sparse.named(exported(network, torch.zeros(EXAMPLE)))
    pruned = tract_sparse.prune(model, conv="none", **words)["model"]
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(pruned).graph.initializer}
    compared = 0
    for name, module in sparsifier.model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert np.array_equal(module.weight.detach().numpy(), weights[f"{name}.weight"]), name
            compared += 1
    assert compared == 7
    assert 0.0 < sparsifier.density() < 0.7


def test_kinds_that_are_not_asked_for_stay():
    network = made()
    sparsifier = sparsified(network)
    assert {name for name, _ in sparsifier.masks()} == {"body.0.3", "body.1.3", "conv"}
    assert "dwconv3x3" in sparsifier.skipped["body.0.0"] and "fc" in sparsifier.skipped["fc"]
    assert "3 input channels" in sparsifier.skipped["stem"]


def test_rules_are_for_layers_that_they_match():
    sparsifier = sparsified(made(), conv3x3=None, scope="uniform", layers=[{"name": "body.0.*", "ratio": 0.25}])
    zeros = {name: 1 - float(mask.float().mean()) for name, mask in sparsifier.masks()}
    assert zeros == pytest.approx({"body.0.3": 0.25, "body.1.3": 0.8}, abs=0.01)
    for rules, words in [([{"name": "nothing", "ratio": 0.5}], "nothing.*matches none"), ([{"ratio": 0.5}], "name")]:
        with pytest.raises(ValueError, match=words):
            Sparsifier(made(), layers=rules).prepare()


def test_schedules_grow_to_the_ratio():
    shares = {}
    for schedule in ("one-shot", "linear", "cubic"):
        sparsifier = Sparsifier(
            made(), conv1x1="unstructured", conv3x3=None, ratio=0.8, scope="uniform", schedule=schedule, begin=2, end=6
        )
        sparsifier.prepare()
        zeros = []
        for _ in range(8):
            sparsifier.step()
            zeros.append(1 - sparsifier.density())
        shares[schedule] = zeros
    assert shares["one-shot"] == pytest.approx([0] + 7 * [0.8], abs=0.01)
    assert shares["linear"] == pytest.approx([0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8], abs=0.01)
    cubic = [0, 0] + [0.8 * (1 - (1 - t / 4) ** 3) for t in (1, 2, 3)] + 3 * [0.8]
    assert shares["cubic"] == pytest.approx(cubic, abs=0.01)


def test_masks_change_at_their_frequency_only():
    sparsifier = Sparsifier(made(), schedule="linear", begin=1, end=8, frequency=3)
    sparsifier.prepare()
    densities = []
    for _ in range(9):
        sparsifier.step()
        densities.append(round(sparsifier.density(), 6))
    changes = [at + 2 for at in range(8) if densities[at] != densities[at + 1]]
    assert changes == [4, 7, 8]


@pytest.mark.parametrize("recover", [True, False])
def test_masked_weights_come_back_if_they_may(recover):
    layer = nn.Sequential(nn.Linear(8, 8, bias=False))
    with torch.no_grad():
        layer[0].weight.copy_(torch.arange(1, 65, dtype=torch.float32).reshape(8, 8))
    sparsifier = Sparsifier(layer, fc="unstructured", ratio=0.5, schedule="linear", begin=0, end=2, recover=recover)
    sparsifier.prepare()
    sparsifier.step()
    assert (layer[0].weight == 0).sum() == 16
    with torch.no_grad():
        # those that were masked are the largest now
        layer[0].parametrizations.weight.original[:2] += 100
    sparsifier.step()
    assert (layer[0].weight == 0).sum() == 32
    assert bool((layer[0].weight[:2] != 0).all()) == recover


def test_training_leaves_zeros_zero():
    network = made().train()
    sparsifier = Sparsifier(network, dwconv3x3="3:9", fc="2x1", end=3)
    sparsifier.prepare()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(6):
        x, y = torch.randn((4, 3, 32, 32), generator=generator), torch.randint(10, (4,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
        sparsifier.step()
    before = {name: module.weight.detach().clone() for name, module in sparsifier._modules.items()}
    for name, mask in sparsifier.masks():
        assert (before[name][~mask] == 0).all() and (before[name][mask] != 0).all()
    sparsifier.squash_mask()
    for name, weight in before.items():
        module = dict(network.named_modules())[name]
        assert torch.equal(module.weight, weight) and isinstance(module.weight, nn.Parameter)
    assert not any(isinstance(module, Mask) for module in network.modules())
    with pytest.raises(ValueError, match="prepare"):
        sparsifier.step()


def batches(count):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn((4, 3, 32, 32), generator=generator), torch.randint(10, (4,), generator=generator)


def trained(network, forward, steps=6, accumulate=2):
    """Trains with gradients of several batches to a step."""
    sparsifier = Sparsifier(network, schedule="linear", end=4)
    sparsifier.prepare()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for number, (x, y) in enumerate(batches(steps * accumulate)):
        loss = nn.functional.cross_entropy(forward(x).float(), y) / accumulate
        loss.backward()
        if (number + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            sparsifier.step()
    return sparsifier


def check_masks(sparsifier):
    """Masks have the density that is wanted, and hold."""
    assert sparsifier.density() < 0.45
    for name, mask in sparsifier.masks():
        weight = sparsifier._modules[name].weight
        assert (weight[~mask] == 0).all() and (weight[mask] != 0).all()


def test_gradients_may_be_accumulated():
    network = made().train()
    check_masks(trained(network, network))


def test_products_may_be_of_bfloat16():
    network = made().train()

    def forward(x):
        with torch.autocast("cpu", torch.bfloat16):
            return network(x)

    assert forward(next(batches(1))[0]).dtype == torch.bfloat16
    check_masks(trained(network, forward))


@pytest.mark.skipif(not hasattr(torch, "compile"), reason="this torch has no compiler")
def test_compiled_models_see_new_masks():
    network = made().train()
    forward = torch.compile(network, backend="aot_eager")
    sparsifier = trained(network, forward)
    check_masks(sparsifier)
    x = next(batches(1))[0]
    network.eval()
    assert torch.allclose(forward(x), network(x), atol=1e-4)
    with torch.no_grad():
        before = forward(x)
        for _, mask in sparsifier.masks():
            mask.fill_(False)
        assert not torch.allclose(forward(x), before, atol=1e-4)


WORKER = """
import sys, torch
sys.path[:0] = [sys.argv[3]]
from test_torch import Network, Sparsifier, made
from torch import distributed, nn
rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
network = made().train()
sparsifier = Sparsifier(network, fc="2x1", schedule="linear", end=4)
sparsifier.prepare()
parallel = nn.parallel.DistributedDataParallel(network)
optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1, momentum=0.9)
generator = torch.Generator().manual_seed(rank)
for _ in range(5):
    x, y = torch.randn((4, 3, 32, 32), generator=generator), torch.randint(10, (4,), generator=generator)
    optimizer.zero_grad()
    nn.functional.cross_entropy(parallel(x), y).backward()
    optimizer.step()
    sparsifier.step()
mine = torch.cat([mask.flatten() for _, mask in sparsifier.masks()]).to(torch.uint8)
all_ranks = [torch.empty_like(mine) for _ in range(2)]
distributed.all_gather(all_ranks, mine)
same = torch.equal(*all_ranks)
apart = [torch.empty_like(x) for _ in range(2)]
distributed.all_gather(apart, x)
print(same, torch.equal(*apart), round(sparsifier.density(), 2), flush=True)
"""


@pytest.mark.skipif(
    not torch.distributed.is_available() or torch.__version__.startswith("1."),
    reason="this torch has no torch.distributed, or one that cannot send masks of bool",
)
def test_ranks_hold_the_same_masks(tmp_path):
    line = [sys.executable, "-c", WORKER]
    ends = [str(tmp_path / "meeting"), str(Path(__file__).parent)]
    ranks = [
        subprocess.Popen([*line, str(rank), *ends], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    for rank in ranks:
        said, wrong = rank.communicate(timeout=300)
        assert rank.returncode == 0, wrong
        same_masks, same_pictures, density = said.split()
        assert (same_masks, same_pictures) == ("True", "False")
        assert 0.1 < float(density) < 0.5


def test_structure_loss_is_the_norm_of_groups():
    layer = nn.Sequential(nn.Linear(6, 4, bias=False))
    sparsifier = Sparsifier(layer, fc="2x1", ratio=0.5)
    sparsifier.prepare()
    weight = layer[0].parametrizations.weight.original
    loss = structure_loss(layer)
    expected = 2**0.5 * weight.detach().reshape(2, 2, 6).square().sum(1).sqrt().sum()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    loss.backward()
    assert weight.grad.abs().min() > 0
    sparsifier.step()
    assert float(structure_loss(layer)) == pytest.approx(float(expected), rel=1e-5), "masks make no difference"


def test_structure_loss_makes_groups_small():
    network = made().train()
    Sparsifier(network, conv1x1="4x4", dwconv3x3="3:9", conv3x3="4x4").prepare()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    taken = []
    for _ in range(5):
        loss = structure_loss(network)
        taken.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert taken == sorted(taken, reverse=True) and taken[-1] < taken[0]
    assert network.body[0][0].parametrizations.weight.original.grad is None, "3:9 removes no groups"
    with pytest.raises(ValueError, match="no masks"):
        structure_loss(made())


@pytest.mark.parametrize("seed", [1, 2])
def test_rearranged_modules_compute_the_same(seed):
    network = made(seed)
    expected = copy.deepcopy(network)
    shape = {"conv1x1": "4x4", "conv3x3": "4x4", "fc": "2x1", "ratio": 0.5}
    found = rearrange(network, torch.zeros(EXAMPLE), **shape, search_seconds=2.0)
    x = torch.randn((2, *EXAMPLE[1:]), generator=torch.Generator().manual_seed(seed))
    scale = float(expected(x).abs().max())
    assert torch.allclose(network(x), expected(x), atol=1e-4 * scale)
    assert found["proof"] <= 1e-4 and found["classes"] > 0
    state = expected.state_dict()
    moved = [name for name, value in network.state_dict().items() if not torch.equal(value, state[name])]
    assert {"body.0.4.running_mean", "body.1.0.weight", "conv.weight", "fc.weight"} <= set(moved)
    for name, value in network.state_dict().items():
        assert torch.equal(value.flatten().sort().values, state[name].flatten().sort().values)

    def kept(model):
        layers = {name: module.weight.detach().clone() for name, module in model.named_modules() if hasattr(module, "weight")}
        return {name: float((layers[name].abs() * mask).sum()) for name, mask in sparsified(model, **shape).masks()}

    before, after = kept(expected), kept(network)
    assert sum(after.values()) > 1.01 * sum(before.values())


def test_modules_that_cannot_be_rearranged_stay():
    class Scaled(nn.Module):
        """Its channels are scaled by a tensor that is no parameter."""

        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)
            self.scale = torch.linspace(0.5, 2.0, 16).reshape(1, 16, 1, 1)

        def forward(self, x):
            return self.last(torch.relu(self.first(x)) * self.scale)

    torch.manual_seed(1)
    network = Scaled()
    state = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="no such parameter"):
        rearrange(network, torch.zeros(1, 8, 4, 4), conv1x1="4x4", ratio=0.5, search_seconds=1.0)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    network = made()
    Sparsifier(network).prepare()
    with pytest.raises(ValueError, match="before prepare"):
        rearrange(network, torch.zeros(EXAMPLE))


def test_checkpoints_go_on_where_they_were():
    settings = {"schedule": "linear", "end": 6}
    first = Sparsifier(made(), **settings)
    first.prepare()
    for _ in range(3):
        first.step()
    file = io.BytesIO()
    torch.save({"model": first.model.state_dict(), "sparsifier": first.state_dict()}, file)
    file.seek(0)
    state = torch.load(file)
    second = Sparsifier(made(seed=2), **settings)
    second.prepare()
    second.model.load_state_dict(state["model"])
    second.load_state_dict(state["sparsifier"])
    for _ in range(3):
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first.masks(), second.masks()))
        first.step()
        second.step()
    x = torch.randn(EXAMPLE)
    assert torch.equal(first.model(x), second.model(x))
    third = Sparsifier(made(width=8), **settings)
    third.prepare()
    with pytest.raises(ValueError, match="a mask of"):
        third.load_state_dict(state["sparsifier"])
    fourth = Sparsifier(made(), fc="4x4", **settings)
    fourth.prepare()
    with pytest.raises(ValueError, match="only one of them has fc"):
        fourth.load_state_dict(state["sparsifier"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_other_types_are_masked_alike(dtype):
    network = made()
    for parameter in network.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).to(torch.float32)
    expected = sparsified(copy.deepcopy(network))
    got = sparsified(copy.deepcopy(network).to(dtype))
    if dtype != torch.float16:  # whose smallest numbers are not those of bfloat16
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(expected.masks(), got.masks()))
    assert got.model.conv.weight.dtype == dtype
    assert got.density() == pytest.approx(expected.density(), abs=0.01)


def test_wrong_settings_are_named():
    for settings, words in [
        ({"schedule": "steep"}, "schedule='steep'.*one-shot"),
        ({"scope": "local"}, "scope='local'"),
        ({"ratio": 1.5}, "ratio=1.5"),
        ({"begin": 3, "end": 2}, "begin=3, end=2"),
        ({"frequency": 0}, "frequency=0"),
    ]:
        with pytest.raises(ValueError, match=words):
            Sparsifier(made(), **settings)
    for settings, words in [
        ({"conv1x1": "5:9"}, "conv1x1.*5:9"),
        ({"include": "nothing*"}, "nothing.*matches none"),
        ({"conv1x1": None, "conv3x3": None}, "no layer can be pruned"),
    ]:
        with pytest.raises(ValueError, match=words):
            Sparsifier(made(), **settings).prepare()
    shared = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    shared[1].weight = shared[0].weight
    with pytest.raises(ValueError, match="'1'.*shares its weight with '0'"):
        Sparsifier(shared, fc="4x4").prepare()
    normed = nn.Sequential(nn.Linear(8, 8))
    nn.utils.parametrize.register_parametrization(normed[0], "weight", nn.Identity())
    with pytest.raises(ValueError, match="'0'.*parametrization"):
        Sparsifier(normed, fc="4x4").prepare()
    prepared = Sparsifier(made())
    prepared.prepare()
    with pytest.raises(ValueError, match="already"):
        prepared.prepare()


@pytest.mark.parametrize("recipe", RECIPES)
def test_exported_files_have_the_zeros(recipe, tmp_path):
    network, path = made(), tmp_path / "network.onnx"
    sparsifier = sparsified(network, **recipe)
    x = torch.randn(EXAMPLE, generator=torch.Generator().manual_seed(1))
    report = export(network, x, path, input_names=["x"])
    # 2:4 and unstructured both run
    assert report["layers_sparse"] >= len(list(sparsifier.masks()))
    got = tract_sparse.Session(path).run(None, {"x": x.numpy()})[0]
    expected = network(x).detach().numpy()
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
    assert sparsifier.density() < 1, "the masks are still there"
    sparsifier.squash_mask()
    export(network, x, tmp_path / "squashed.onnx", input_names=["x"])
    assert (tmp_path / "squashed.onnx").read_bytes() == path.read_bytes()


def test_networks_trained_to_be_quantised_run_in_int8(tmp_path):
    quantisation = pytest.importorskip("torch.ao.quantization", reason="this torch quantises elsewhere")
    fx = pytest.importorskip("torch.ao.quantization.quantize_fx")
    network = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.ReLU6()),
        *(nn.Conv2d(32, 64, 1), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 8)),
    )
    sparsified(network, conv1x1="4x4", fc="4x4", ratio=0.5).squash_mask()
    observed = {"observer": quantisation.MovingAverageMinMaxObserver, "quant_min": 0, "quant_max": 255, "dtype": torch.quint8}
    by_channel = {"observer": quantisation.MovingAveragePerChannelMinMaxObserver, "qscheme": torch.per_channel_symmetric}
    by_channel.update(quant_min=-128, quant_max=127, dtype=torch.qint8, ch_axis=0)
    fake = quantisation.FakeQuantize
    config = quantisation.QConfig(activation=fake.with_args(**observed), weight=fake.with_args(**by_channel))
    x = torch.randn((4, 3, 32, 32), generator=torch.Generator().manual_seed(2))
    mapping = quantisation.QConfigMapping().set_global(config)
    prepared = fx.prepare_qat_fx(network.train(), mapping, (x,))
    prepared(x)
    prepared.apply(quantisation.disable_observer)
    path = tmp_path / "quantised.onnx"
    path.write_bytes(exported(prepared.eval(), x[:1], input_names=["x"]))

    session = tract_sparse.Session(path)
    report = session.report()
    assert len(report) == 5
    assert {layer["precision"] for layer in report} == {"int8"}, session.report_table()
    got = session.run(None, {"x": x[:1].numpy()})[0]
    expected = prepared(x[:1]).detach().numpy()
    # sums that end halfway between two steps may go either way, and so may a few of the last layer's inputs
    step = float([module for name, module in prepared.named_modules() if re.fullmatch(r"activation_post_process_\d+", name)][-1].scale)
    assert np.abs(got - expected).max() <= 2.01 * step


def test_a_layer_that_loses_its_zeros_is_named(tmp_path):
    class Doubled(nn.Module):
        """Its weights are computed at run time."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return nn.functional.conv2d(x, self.conv.weight * x.mean(), self.conv.bias)

    network = Doubled()
    sparsified(network)
    with pytest.raises(ValueError, match="layer 'conv'"):
        export(network, torch.zeros(1, 8, 8, 8), tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_single_layer_is_a_network(tmp_path):
    layer = nn.Conv2d(16, 16, 1)
    sparsifier = sparsified(layer)
    assert [name for name, _ in sparsifier.masks()] == [""]
    assert export(layer, torch.zeros(1, 16, 8, 8), tmp_path / "layer.onnx")["layers"][0]["zeros"] == "2x1:0.8"


def test_a_step_of_mobilenet_is_quick():
    layers, ic = [nn.Conv2d(3, 32, 3, 2, 1)], 32
    for oc in (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024):
        layers += [nn.Conv2d(ic, ic, 3, 1, 1, groups=ic), nn.Conv2d(ic, oc, 1)]
        ic = oc
    network = nn.Sequential(*layers, nn.Linear(1024, 1000))
    sparsifier = Sparsifier(network, dwconv3x3="3:9", end=10)
    sparsifier.prepare()
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        sparsifier.step()
        taken.append(time.perf_counter() - start)
    print(f"masks of MobileNet-v1: {1e3 * min(taken):.0f} ms a step")
    assert min(taken) < 1.0


def test_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.M | re.S))
    assert program.count("steps = 400\n") == 1
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    exec(program.replace("steps = 400\n", "steps = 12\n"), {"__name__": "tutorial"})
    said = capsys.readouterr().out
    assert "step 0: loss" in said and "layers run sparse" in said and "times as fast" in said
