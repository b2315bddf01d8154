"""What is done to a network besides masks: rearrangement, taking out filters, group-to-group connections."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from tract_sparse.torch import Mask, rearrange

from .runs import Run

SEARCH_SECONDS = 10.0
#: Groups of a side of a layer in a group-to-group network, and how many of them reach each of the next.
GROUPS, LINKS = 16, 4


def rearranged(model: nn.Module, example: torch.Tensor, run: Run, quick: bool = False) -> nn.Module:
    """The same network, its channels in the order in which what is going to be pruned keeps most."""
    zeros = run.zeros
    moved = copy.deepcopy(model)
    rearrange(
        moved,
        example,
        conv1x1=zeros.conv1x1,
        dwconv3x3=zeros.dwconv3x3,
        conv3x3=zeros.conv3x3,
        fc=zeros.fc,
        ratio=zeros.ratio,
        scope="uniform",
        layers=zeros.rules(),
        search_seconds=1.0 if quick else SEARCH_SECONDS,
        seed=run.seed,
    )
    return moved


def take_out_filters(model: nn.Module, example: torch.Tensor, run: Run, quick: bool = False) -> None:
    """Makes layers narrower, in place: the channels that matter least go, those of the classes stay.

    Methods are those of the package torch-pruning: l1, l2, fpgm, taylor; and two that look at what the activations behind norms
    are for some pictures: apoz, how often they are not zero, and mean, how large they are.
    """
    import torch_pruning

    from . import data, training

    method, share = run.filters
    pictures, classes = data.epoch(run.data, run.dense_epochs, quick)
    given = training.tensor(pictures[:512])
    kinds = torch_pruning.importance
    importance = {
        "l1": lambda: kinds.MagnitudeImportance(p=1),
        "l2": lambda: kinds.MagnitudeImportance(p=2),
        "fpgm": kinds.FPGMImportance,
        "taylor": kinds.TaylorImportance,
        "apoz": lambda: _by_activations(model, given, lambda values: values > 0),
        "mean": lambda: _by_activations(model, given, nn.functional.relu),
    }[method]()
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    pruner = torch_pruning.pruner.MagnitudePruner(
        model.eval(), example, importance, pruning_ratio=share, ignored_layers=[last], round_to=4
    )
    if method == "taylor":
        nn.functional.cross_entropy(model(given), torch.from_numpy(classes[:512].copy())).backward()
    pruner.step()
    model.zero_grad(set_to_none=True)


def _by_activations(
    model: nn.Module, given: torch.Tensor, judge: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[..., Optional[torch.Tensor]]:
    """An importance for torch-pruning: means of what is judged of the norms' outputs, over norms that lose the same channels."""
    worth: dict[nn.Module, torch.Tensor] = {}

    def note(norm: nn.Module, _: object, out: torch.Tensor) -> None:
        worth[norm] = judge(out).float().mean((0, 2, 3))

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(note) for norm in norms]
    with torch.no_grad():
        model.eval()(given)
    for hook in hooks:
        hook.remove()

    def importance(group: Sequence[tuple[Any, Sequence[int]]], **_: object) -> Optional[torch.Tensor]:
        found = [worth[dependency.layer][idxs] for dependency, idxs in group if dependency.layer in worth]
        return torch.stack(found).mean(0) if found else None

    return importance


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
