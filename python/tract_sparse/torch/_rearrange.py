"""Channels of a live module in the order in which pruning keeps most."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Union

import torch
from torch import nn

from .._tract_sparse import named, prune
from ._export import exported
from ._sparsifier import Mask, recipe_of

#: Largest change of an output that rounding may make, relative to the largest output.
ROUNDING = 1e-3


def rearrange(
    model: nn.Module,
    example_input: Any,
    conv1x1: Optional[str] = "2x1",
    dwconv3x3: Optional[str] = None,
    conv3x3: Optional[str] = "5:9",
    fc: Optional[str] = None,
    ratio: float = 0.8,
    scope: str = "global",
    include: Union[str, Sequence[str], None] = None,
    exclude: Union[str, Sequence[str], None] = None,
    *,
    layers: Sequence[Mapping[str, Any]] = (),
    search_seconds: float = 30.0,
    seed: int = 1,
    progress: Optional[Callable[[str, Optional[float]], object]] = None,
) -> dict[str, Any]:
    """Permutes channels all over a module, in place, so that pruning keeps more of the weights' norm.

    model: the module, before `Sparsifier.prepare` and before the optimizer is made, whose state would stay behind. What it
        computes in `eval` mode stays the same, which is proven by running it before and after.
    example_input: an input, or a tuple of inputs, as `torch.onnx.export` takes them.
    conv1x1 to layers: what is going to be pruned, as `Sparsifier` has it.
    search_seconds: most time to search for, in seconds. seed: of the search.
    progress: called with a text and the share that is done, or None where nobody knows it.

    Returns what has been gained: `layers` (dictionaries with `name`, the shares of the l1 norm kept `before` and `after`,
    and `movable`), `classes` and `channels` (sets of channels that may change places, and how many are in them), and `proof`
    (largest difference of an output, relative to the largest output).

    Raises ValueError if the module has masks, cannot be exported, has a parameter whose channels move in the file but cannot
    be found in the module, or computes something else afterwards; the module then stays as it was.
    """
    if any(isinstance(module, Mask) for module in model.modules()):
        raise ValueError("the model has masks: rearrange it before prepare()")
    recipe = recipe_of(conv1x1, dwconv3x3, conv3x3, fc, ratio, scope, include, exclude, layers)
    plain = copy.deepcopy(model).eval().to("cpu", torch.float32)
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    inputs = tuple(_like(value) for value in inputs)
    before = _outputs(plain, inputs)
    tagged = copy.deepcopy(plain)
    _tell_apart(tagged)
    file = named(exported(tagged, inputs))
    found = prune(file, rearrange=True, search_seconds=search_seconds, seed=seed, progress=progress, **recipe)["rearranged"]
    moves = found.pop("moves")
    _permute(plain, moves)
    after = _outputs(plain, inputs)
    scale = max(float(out.abs().max()) for out in before)
    found["proof"] = max(float((a - b).abs().max()) for a, b in zip(before, after)) / (scale or 1.0)
    if not found["proof"] <= ROUNDING:
        raise ValueError(f"the rearranged model computes something else: outputs differ by {found['proof']:.2g} of the largest")
    _permute(model, moves)
    return found


def _like(value: Any) -> Any:
    return value.detach().to("cpu", torch.float32) if torch.is_tensor(value) and value.is_floating_point() else value


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if torch.is_tensor(value)}


def _tell_apart(model: nn.Module) -> None:
    """Changes norms and biases that equal others a little: exporters make one tensor of equal ones."""
    seen: dict[bytes, int] = {}
    for name, tensor in _tensors(model).items():
        if tensor.dim() != 1 or not tensor.is_floating_point():
            continue
        key = tensor.detach().numpy().tobytes()
        count = seen[key] = seen.get(key, -1) + 1
        if count:
            tensor.data.mul_(1 + count * 2**-14).add_(count * 2**-14)


def _outputs(model: nn.Module, inputs: tuple[Any, ...]) -> list[torch.Tensor]:
    """Outputs for the example, and for noise of its shape."""
    generator = torch.Generator().manual_seed(1)
    noise = tuple(
        torch.randn(value.shape, generator=generator)
        if torch.is_tensor(value) and value.is_floating_point()
        else value
        for value in inputs
    )
    with torch.no_grad():
        return [out.clone() for given in (inputs, noise) for out in _flat(model(*given))]


def _flat(value: Any) -> list[torch.Tensor]:
    if torch.is_tensor(value):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _flat(part)]


def _permute(model: nn.Module, moves: Sequence[Mapping[str, Any]]) -> None:
    """Moves positions of parameters and buffers; nothing if one cannot be found."""
    tensors = _tensors(model)
    for move in moves:
        tensor = tensors.get(move["tensor"])
        if tensor is None:
            raise ValueError(f"channels of {move['tensor']!r} move in the exported file, and the model has no such parameter")
        if tensor.dim() <= move["axis"] or tensor.shape[move["axis"]] != len(move["order"]):
            raise ValueError(f"parameter {move['tensor']!r}: it has other axes in the exported file")
    with torch.no_grad():
        for move in moves:
            tensor = tensors[move["tensor"]]
            order = torch.as_tensor(move["order"], device=tensor.device)
            tensor.copy_(tensor.index_select(move["axis"], order))
