"""Modules as ONNX files in which every layer has the zeros that it was given."""

from __future__ import annotations

import copy
import inspect as signatures
import io
from os import PathLike
from typing import Any, Union

import torch
from torch import nn
from torch.nn.utils import parametrize

from .._tract_sparse import inspect, layers, write
from ._sparsifier import WEIGHT, Mask

OPSET = 13
#: What densities in a report may be off by: it counts zeros that a kept group has by chance, too.
CLOSE = 0.02


def export(
    model: nn.Module, example: Any, path: Union[str, PathLike[str]], **options: Any
) -> dict[str, Any]:
    """Writes a module as ONNX, and makes sure that what it was pruned to is found there.

    model: the module, with masks or after `squash_mask`; it stays as it is. It is exported as it is in `eval` mode.
    example: an input, or a tuple of inputs, as `torch.onnx.export` takes them.
    path: file to write, whole or not at all.
    options: for `torch.onnx.export`: `input_names`, `output_names`, `dynamic_axes`, `opset_version`.

    Returns what `tract_sparse.inspect` says of the file, with every layer on a sparse kernel that has a zero.

    Raises ValueError if a masked layer has lost its zeros, or cannot be found in the file; the message names the layer and says
    why. Nothing is written then.
    """
    plain = copy.deepcopy(model).eval()
    wanted: dict[str, Mask] = {}
    for name, module in plain.named_modules():
        if parametrize.is_parametrized(module, WEIGHT):
            masked = [part for part in module.parametrizations[WEIGHT] if isinstance(part, Mask)]
            if masked:
                _own_class(module)
                parametrize.remove_parametrizations(module, WEIGHT, leave_parametrized=True)
                wanted[name] = masked[0]
    written = exported(plain, example, **options)
    report = inspect(written, sparse="always")
    nodes = {layer["weights"]: layer for layer in layers(written) if layer["weights"]}
    found = {layer["layer"]: layer for layer in report["layers"]}
    for name, mask in wanted.items():
        if mask.structure is not None:
            _check(name, mask, nodes, found)
    write(path, written)
    return report


def exported(plain: nn.Module, example: Any, **options: Any) -> bytes:
    """A module in `eval` mode as ONNX in which weights have the names of parameters."""
    settings: dict[str, Any] = {
        "opset_version": OPSET,
        # names of weights are kept as long as nothing is folded into them; the engine folds when it loads the file
        "training": torch.onnx.TrainingMode.PRESERVE,
        "do_constant_folding": False,
    }
    if "dynamo" in signatures.signature(torch.onnx.export).parameters:
        settings["dynamo"] = False
    file = io.BytesIO()
    torch.onnx.export(plain, example, file, **{**settings, **options})
    return file.getvalue()


def _own_class(module: nn.Module) -> None:
    """Gives a copied module a class of its own: removing a parametrization edits the class, which copies share."""
    shared = type(module)
    own = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, own)


def _check(name: str, mask: Mask, nodes: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]]) -> None:
    """Fails unless a layer has the zeros of its mask."""
    tensor = f"{name}.{WEIGHT}" if name else WEIGHT
    if tensor not in nodes:
        raise ValueError(f"layer {name!r}: no layer of the file that can be pruned has the weights {tensor!r}")
    node = nodes[tensor]["name"]
    if node not in found:
        raise ValueError(f"layer {name!r}: the engine has no layer {node!r}")
    layer = found[node]
    wanted = float(mask.mask.float().mean())
    density = layer["density"]
    if density is None:
        raise ValueError(f"layer {name!r}: the engine cannot read {node!r}: {layer['reason']}")
    if not wanted - CLOSE <= density <= wanted + CLOSE:
        raise ValueError(f"layer {name!r}: {density:.3f} of the weights of {node!r} are not zero, {wanted:.3f} in its mask")
    # the engine calls a layer dense of which fewer than a tenth is zero
    if wanted <= 0.9 and _kind(layer["structure"] or "dense") != _kind(mask.structure or "dense"):
        raise ValueError(f"layer {name!r}: pruned to {mask.structure}, but {node!r} has {layer['structure']}")


def _kind(structure: str) -> str:
    """What kind of kernel a structure wants: a pattern, single weights, or blocks of any size."""
    if structure in ("unstructured", "1x1", "dense"):
        return structure.replace("1x1", "unstructured")
    return structure[:3] if structure[:3] in ("2:4", "3:9", "5:9") else "blocks"
