"""What is done to a network besides masks: rearrangement, taking out filters, group-to-group connections."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Optional

import numpy as np
import onnx
import onnx.numpy_helper
import torch
import tract_sparse
from torch import nn
from torch.nn.utils import parametrize
from tract_sparse.torch import Mask

from .runs import Run

SEARCH_SECONDS = 10.0
#: Groups of a side of a layer in a group-to-group network, and how many of them reach each of the next.
GROUPS, LINKS = 16, 4


def rearranged(model: nn.Module, example: torch.Tensor, run: Run, quick: bool = False) -> nn.Module:
    """The same network, its channels in the order in which blocks keep most, found by `tract_sparse.prune`.

    Where a channel has gone is read from the norm behind its layer, whose values tell channels apart. Raises
    ValueError if that is not so, or if the network computes something else afterwards.
    """
    zeros = run.zeros
    before = onnx.load_from_string(_exported(model, example))
    pruned = tract_sparse.prune(
        before.SerializeToString(),
        rearrange=True,
        search_seconds=1.0 if quick else SEARCH_SECONDS,
        seed=run.seed,
        ratio=zeros.ratio or None,
        conv1x1=zeros.conv1x1 or "none",
        dwconv3x3=zeros.dwconv3x3 or "none",
        conv3x3=zeros.conv3x3 or "none",
        fc=zeros.fc or "none",
        layer=[{"name": f"/{name}/*", "ratio": ratio} for name, ratio in zeros.layers] or None,
    )
    after = _values(onnx.load_from_string(pruned["model"]))
    layers = list(model)
    moved = copy.deepcopy(model)
    order: Optional[np.ndarray] = None
    for at, layer in enumerate(layers):
        new = moved[at]
        if isinstance(layer, nn.BatchNorm2d):
            for name, values in [*new.named_parameters(), *new.named_buffers()]:
                if values.dim():
                    values.data = values.data[order]
        elif isinstance(layer, nn.Conv2d):
            own = _order(layers[at + 1], f"{at + 1}", after)
            weight = layer.weight.data[own]
            new.weight.data = weight if layer.groups > 1 or order is None else weight[:, order]
            if layer.groups > 1 and not np.array_equal(own, order):
                raise ValueError(f"layer {at}: its channels are not in the order of its input")
            order = own
        elif isinstance(layer, nn.Linear):
            new.weight.data = layer.weight.data[:, order]
    noise = torch.randn(4, *example.shape[1:], generator=torch.Generator().manual_seed(run.seed))
    with torch.no_grad():
        if not torch.allclose(model.eval()(noise), moved.eval()(noise), atol=1e-3, rtol=1e-3):
            raise ValueError("the rearranged network computes something else")
    return moved


def _order(norm: nn.BatchNorm2d, name: str, moved: dict[str, np.ndarray]) -> np.ndarray:
    """Where each channel of the moved norm was."""
    # equal tensors may have become one
    parts = [part for part in ("running_var", "running_mean", "weight", "bias") if f"{name}.{part}" in moved]

    def channels(values: list[np.ndarray]) -> list[tuple[float, ...]]:
        return list(zip(*(part.tolist() for part in values)))

    before = channels([getattr(norm, part).detach().numpy() for part in parts])
    places = {channel: at for at, channel in enumerate(before)}
    if len(places) != len(before):
        raise ValueError(f"layer {name}: channels of the norm are the same")
    return np.array([places[channel] for channel in channels([moved[f"{name}.{part}"] for part in parts])])


def _exported(model: nn.Module, example: torch.Tensor) -> bytes:
    file = io.BytesIO()
    plain = copy.deepcopy(model).eval()
    options = {"dynamo": False} if hasattr(torch, "compile") else {}
    torch.onnx.export(
        plain,
        example,
        file,
        opset_version=13,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        **options,
    )
    return file.getvalue()


def _values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}


def take_out_filters(model: nn.Module, example: torch.Tensor, run: Run, quick: bool = False) -> None:
    """Makes layers narrower, in place: the channels that matter least go, those of the classes stay.

    Methods are those of the package torch-pruning: l1, l2, fpgm, taylor.
    """
    import torch_pruning

    method, share = run.filters
    importance = {
        "l1": lambda: torch_pruning.importance.MagnitudeImportance(p=1),
        "l2": lambda: torch_pruning.importance.MagnitudeImportance(p=2),
        "fpgm": torch_pruning.importance.FPGMImportance,
        "taylor": torch_pruning.importance.TaylorImportance,
    }[method]()
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    pruner = torch_pruning.pruner.MagnitudePruner(
        model.eval(), example, importance, pruning_ratio=share, ignored_layers=[last], round_to=4
    )
    if method == "taylor":
        from . import data, training

        pictures, classes = data.epoch(run.data, run.dense_epochs, quick)
        loss = nn.functional.cross_entropy(
            model(training.tensor(pictures[:512])), torch.from_numpy(classes[:512].copy())
        )
        loss.backward()
    pruner.step()
    model.zero_grad(set_to_none=True)


def five_of_nine(model: nn.Module, run: Run, steps: int) -> Callable[[], None]:
    """Puts 5:9 patterns on depthwise 3x3 convolutions, which the engine has no kernel for.

    Four channels share the centre and the three of its neighbours that have the largest norm. They are chosen
    anew as a `Sparsifier` does.
    """
    layers = [
        m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1 and m.kernel_size == (3, 3)
    ]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", Mask(layer.weight))
    step = 0

    def choose() -> None:
        for layer in layers:
            norms = layer.parametrizations.weight.original.detach().abs().view(-1, 4, 9).sum(1)
            norms[:, 4] = torch.inf
            kept = torch.zeros_like(norms, dtype=torch.bool).scatter_(1, norms.topk(4).indices, True)
            layer.parametrizations.weight[0].mask.copy_(kept.repeat_interleave(4, 0).view(layer.weight.shape))

    def after() -> None:
        nonlocal step
        step += 1
        if step % run.zeros.frequency == 1 and step <= run.zeros.end * steps:
            choose()

    return after


class Links(nn.Module):
    """A parametrization: groups of outputs see a few groups of inputs each."""

    mask: torch.Tensor

    def __init__(self, weight: torch.Tensor, generator: np.random.Generator) -> None:
        super().__init__()
        kept = np.zeros((GROUPS, GROUPS), bool)
        for row in kept:
            row[generator.choice(GROUPS, LINKS, replace=False)] = True
        self.register_buffer("kept", torch.from_numpy(kept))
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self.spread()

    def spread(self) -> None:
        """Makes the mask that of the links."""
        rows, columns = self.mask.shape
        mask = self.kept.repeat_interleave(rows // GROUPS, 0).repeat_interleave(columns // GROUPS, 1)
        self.mask.copy_(mask)

    def regrow(self, weight: torch.Tensor, generator: np.random.Generator, share: float) -> None:
        """Cuts the links of least norm of each group of outputs, and makes as many new ones, from zero."""
        count = int(round(share * LINKS))
        rows, columns = weight.shape
        norms = (
            (weight.detach() * self.mask)
            .view(GROUPS, rows // GROUPS, GROUPS, columns // GROUPS)
            .abs()
            .sum((1, 3))
        )
        for row in range(GROUPS):
            on = np.flatnonzero(self.kept[row].numpy())
            off = np.flatnonzero(~self.kept[row].numpy())
            cut = on[np.argsort(norms[row].numpy()[on])[:count]]
            grown = generator.choice(off, count, replace=False)
            self.kept[row, cut], self.kept[row, grown] = False, True
            fresh = weight.data[row * (rows // GROUPS) : (row + 1) * (rows // GROUPS)].view(
                rows // GROUPS, GROUPS, -1
            )
            fresh[:, grown] = 0.0
        self.spread()

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.where(self.mask, weight, weight.new_zeros(()))


def connect(model: nn.Module, seed: int) -> None:
    """Puts random links on all linear layers whose sides can be divided."""
    generator = np.random.default_rng(seed)
    for layer in model.modules():
        if (
            isinstance(layer, nn.Linear)
            and layer.weight.shape[0] % GROUPS == 0
            and layer.weight.shape[1] % GROUPS == 0
        ):
            parametrize.register_parametrization(layer, "weight", Links(layer.weight, generator))


def _linked(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if parametrize.is_parametrized(layer, "weight")]


def regrowing(model: nn.Module, run: Run) -> Optional[Callable[[int], Callable[[], None]]]:
    """What a network that regrows does after each step; links stay for the last half."""
    if run.g2g != "regrow":
        return None
    generator = np.random.default_rng([run.seed, 7])

    def sparsify(steps: int) -> Callable[[], None]:
        step = 0

        def after() -> None:
            nonlocal step
            step += 1
            if step % 50 == 0 and step <= steps // 2:
                for layer in _linked(model):
                    layer.parametrizations.weight[0].regrow(
                        layer.parametrizations.weight.original, generator, 0.25
                    )

        return after

    return sparsify


def disconnect(model: nn.Module) -> None:
    """Makes linked weights parameters with zeros."""
    for layer in _linked(model):
        if isinstance(layer.parametrizations.weight[0], Links):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
