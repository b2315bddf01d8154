"""Masks of the layers of a module, and when they change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from .._tract_sparse import masks

SCHEDULES = ("one-shot", "cubic", "linear")
SCOPES = ("global", "uniform")
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
WEIGHT = "weight"


class Mask(nn.Module):
    """A parametrization: the weights that stay are those of the parameter, the others are zero.

    The parameter keeps its dense weights; those that are masked get no gradient.
    """

    mask: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        #: The structure of the zeros, such as "2x1"; None as long as there are none.
        self.structure: Optional[str] = None
        #: The structure that the zeros are going to have.
        self.wanted = ""
        #: Groups of channels of the layer.
        self.groups = 1

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.where(self.mask, weight, weight.new_zeros(()))


class Sparsifier:
    """Makes the layers of a module sparse, step by step, with the verbs of PyTorch's sparsifiers.

    model: the module; its layers are masked in place.
    conv1x1, dwconv3x3, conv3x3, fc: structures such as "2x1", "4x4", "unstructured", "2:4"; "3:9" for depthwise 3x3
        convolutions, "5:9" for other 3x3 ones; None leaves such layers dense. A ratio behind a structure, as in "4x4:0.5", goes
        before `ratio`. The patterns of 3:9 and 5:9 come all at once, when the schedule begins.
    ratio: share of the groups of weights that is zero in the end, 0..1.
    schedule: how the share grows from the step `begin` to the step `end`: "cubic" (1 - (1 - t)^3), "linear", or "one-shot" at
        `begin`.
    scope: "global", one threshold over all 1x1 convolutions, linear layers and other layers but 3x3 and depthwise convolutions,
        on the groups' norms relative to their mean in the layer, so that no layer loses more than 95 % of its groups; or
        "uniform", the same ratio in each. Layers with a ratio of their own keep it.
    include, exclude: globs over names of modules; all layers without.
    layers: rules for some layers, as a recipe of `tract_sparse.prune` has them: dictionaries with `name`, a glob over names of
        modules, and `ratio`, `structure` or both; the last that matches counts.
    begin, end, frequency: in calls of `step`: when masks appear, when they are complete, and how often they are chosen anew
        between. After `end` they stay.
    recover: whether a masked weight may come back when masks are chosen anew.

    Weights may be on any device and of any floating type; masks are computed on the CPU in float32. Under
    `DistributedDataParallel`, call `prepare` before wrapping the model: equal weights give equal masks on all ranks (with
    torch 2 or newer, since older ones send no tensors of bool).
    """

    def __init__(
        self,
        model: nn.Module,
        conv1x1: Optional[str] = "2x1",
        dwconv3x3: Optional[str] = None,
        conv3x3: Optional[str] = "5:9",
        fc: Optional[str] = None,
        ratio: float = 0.8,
        schedule: str = "cubic",
        scope: str = "global",
        include: Union[str, Sequence[str], None] = None,
        exclude: Union[str, Sequence[str], None] = None,
        *,
        layers: Sequence[Mapping[str, Any]] = (),
        begin: int = 1,
        end: int = 1,
        frequency: int = 1,
        recover: bool = True,
    ) -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule={schedule!r}: expected one of {', '.join(SCHEDULES)}")
        if scope not in SCOPES:
            raise ValueError(f"scope={scope!r}: expected one of {', '.join(SCOPES)}")
        if not 0 <= ratio <= 1:
            raise ValueError(f"ratio={ratio}: not between 0 and 1")
        if not 0 <= begin <= end:
            raise ValueError(f"begin={begin}, end={end}: expected 0 <= begin <= end")
        if frequency < 1:
            raise ValueError(f"frequency={frequency}: expected 1 or more")
        self.model = model
        self.schedule, self.begin, self.end, self.frequency = schedule, begin, end, frequency
        self.recover = recover
        self.recipe = recipe_of(conv1x1, dwconv3x3, conv3x3, fc, ratio, scope, include, exclude, layers)
        #: Why layers are left alone, by the name of their module; known after `prepare`.
        self.skipped: dict[str, str] = {}
        self._step = 0
        #: Layers with masks, and all layers, by the names of their modules.
        self._modules: dict[str, nn.Module] = {}
        self._layers: dict[str, nn.Module] = {}

    def prepare(self) -> None:
        """Puts masks that keep everything on the layers that are going to be pruned.

        Raises ValueError for parameters that layers share, a layer with a parametrization of its weight, a setting that makes
        no sense, and if there is nothing to prune.
        """
        if self._modules:
            raise ValueError("the model has been prepared already")
        layers = {name: module for name, module in self.model.named_modules() if isinstance(module, LAYERS)}
        seen: dict[int, str] = {}
        for name, module in layers.items():
            if parametrize.is_parametrized(module, WEIGHT):
                raise ValueError(f"layer {name!r}: its weight has a parametrization")
            if not module.weight.is_floating_point():
                raise ValueError(f"layer {name!r}: its weight is {module.weight.dtype}")
            first = seen.setdefault(id(module.weight), name)
            if first != name:
                raise ValueError(f"layer {name!r}: it shares its weight with {first!r}")
        found = masks([_given(name, module, module.weight) for name, module in layers.items()], share=0.0, **self.recipe)
        self._layers = layers
        self.skipped = {layer["name"]: layer["skipped"] for layer in found if "skipped" in layer}
        structures = {layer["name"]: layer["structure"] for layer in found if "skipped" not in layer}
        for name, structure in structures.items():
            module = layers[name]
            mask = Mask(module.weight)
            mask.wanted, mask.groups = structure, getattr(module, "groups", 1)
            parametrize.register_parametrization(module, WEIGHT, mask)
            self._modules[name] = module

    def share(self) -> float:
        """How far the schedule has come: the share of the final ratios that masks have at this step, 0..1."""
        if self._step < self.begin:
            return 0.0
        if self.schedule == "one-shot" or self._step >= self.end:
            return 1.0
        done = (self._step - self.begin) / (self.end - self.begin)
        return done if self.schedule == "linear" else 1.0 - (1.0 - done) ** 3

    def step(self) -> None:
        """Counts a step, to be called after the optimizer's, and chooses masks anew where the schedule wants it."""
        self._prepared()
        self._step += 1
        inside = self.begin <= self._step <= self.end
        if self._step == self.end or (inside and (self._step - self.begin) % self.frequency == 0):
            self._choose()

    def _choose(self) -> None:
        """Masks for the weights as they are."""
        given = []
        # globs may match layers without a mask only
        for name, module in self._layers.items():
            masked = name in self._modules and self.recover
            given.append(_given(name, module, module.parametrizations.weight.original if masked else module.weight))
        for found in masks(given, share=self.share(), **self.recipe):
            if found["name"] not in self._modules:
                continue
            if "skipped" in found:
                raise ValueError(f"layer {found['name']!r}: {found['skipped']}")
            mask = _mask(self._modules[found["name"]])
            mask.mask.copy_(torch.from_numpy(found["mask"]))
            mask.structure = found["structure"]

    def masks(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Names of the masked modules, and their masks: true where a weight stays."""
        for name, module in self._modules.items():
            yield name, _mask(module).mask

    def density(self) -> float:
        """Share of the weights of the masked layers that stay."""
        self._prepared()
        kept = sum(int(mask.sum()) for _, mask in self.masks())
        return kept / sum(mask.numel() for _, mask in self.masks())

    def squash_mask(self) -> None:
        """Makes the masked weights the parameters, and takes the masks away."""
        self._prepared()
        for module in self._modules.values():
            parametrize.remove_parametrizations(module, WEIGHT, leave_parametrized=True)
        self._modules, self._layers = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The step, and copies of the masks with their structures. The model's own state has the masks, too."""
        self._prepared()
        structures = {name: _mask(module).structure for name, module in self._modules.items()}
        copies = {name: mask.detach().clone() for name, mask in self.masks()}
        return {"step": self._step, "masks": copies, "structures": structures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state, in a model that has been prepared with the same settings.

        Raises ValueError if the layers of the state are not those of the model.
        """
        self._prepared()
        if set(state["masks"]) != set(self._modules):
            other = sorted(set(state["masks"]) ^ set(self._modules))
            raise ValueError(f"the state is not of this model: only one of them has {', '.join(other)}")
        for name, own in self.masks():
            if state["masks"][name].shape != own.shape:
                raise ValueError(f"layer {name!r}: a mask of {tuple(state['masks'][name].shape)}, not {tuple(own.shape)}")
        for name, own in self.masks():
            own.copy_(state["masks"][name])
            _mask(self._modules[name]).structure = state["structures"][name]
        self._step = state["step"]

    def _prepared(self) -> None:
        if not self._modules:
            raise ValueError("the model has no masks: call prepare() first")


def recipe_of(
    conv1x1: Optional[str],
    dwconv3x3: Optional[str],
    conv3x3: Optional[str],
    fc: Optional[str],
    ratio: float,
    scope: str,
    include: Union[str, Sequence[str], None],
    exclude: Union[str, Sequence[str], None],
    layers: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The settings of a `Sparsifier` as `tract_sparse.prune` takes them."""
    return {
        "ratio": ratio,
        "scope": scope,
        "conv1x1": conv1x1 or "none",
        "dwconv3x3": dwconv3x3 or "none",
        "conv3x3": conv3x3 or "none",
        "fc": fc or "none",
        "conv": "none",
        "include": _globs(include),
        "exclude": _globs(exclude),
        "layer": [dict(rule) for rule in layers],
    }


def _globs(globs: Union[str, Sequence[str], None]) -> list[str]:
    return [globs] if isinstance(globs, str) else list(globs or [])


def _mask(module: nn.Module) -> Mask:
    return module.parametrizations.weight[0]


def _given(name: str, module: nn.Module, weight: torch.Tensor) -> tuple[str, np.ndarray, int]:
    values = weight.detach().to("cpu", torch.float32).contiguous()
    return name, values.numpy(), getattr(module, "groups", 1)
