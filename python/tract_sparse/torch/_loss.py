"""A term of the loss that makes whole groups of weights small before they are cut."""

from __future__ import annotations

import weakref

import torch
from torch import nn
from torch.nn.utils import parametrize

from .._tract_sparse import groups
from ._sparsifier import WEIGHT, Mask

#: Of each mask the number of the group of every weight, and the roots of the sizes of the groups.
_NUMBERS: weakref.WeakKeyDictionary[Mask, tuple[torch.Tensor, torch.Tensor]] = weakref.WeakKeyDictionary()


def structure_loss(model: nn.Module) -> torch.Tensor:
    """The group lasso of the layers that a `Sparsifier` has prepared: a scalar to be scaled and added to the loss.

    It is the sum over all groups that pruning would remove of the l2 norm of their weights (those of the parameter, masked or
    not) times the root of their number, in the type of the weights. Layers with structures that remove no groups, such as
    "2:4" and "3:9", have no part in it.

    Raises ValueError if no layer of the model has a mask.
    """
    terms = []
    masked = False
    for module in model.modules():
        if not parametrize.is_parametrized(module, WEIGHT):
            continue
        for mask in module.parametrizations[WEIGHT]:
            if isinstance(mask, Mask):
                masked = True
                weight = module.parametrizations[WEIGHT].original
                if not mask.wanted.startswith(("2:4", "3:9")):
                    terms.append(_lasso(weight, mask))
    if not masked:
        raise ValueError("the model has no masks: call Sparsifier.prepare() first")
    return torch.stack(terms).sum() if terms else torch.zeros(())


def _lasso(weight: torch.Tensor, mask: Mask) -> torch.Tensor:
    if mask not in _NUMBERS:
        found = torch.from_numpy(groups(list(weight.shape), mask.wanted, groups=mask.groups)).flatten()
        _NUMBERS[mask] = found, torch.bincount(found).sqrt()
    numbers, roots = (part.to(weight.device) for part in _NUMBERS[mask])
    squares = torch.zeros_like(roots, dtype=weight.dtype).index_add(0, numbers, weight.flatten().square())
    # a group of zeros has no direction
    return (roots.to(weight.dtype) * squares.clamp_min(torch.finfo(weight.dtype).tiny).sqrt()).sum()
