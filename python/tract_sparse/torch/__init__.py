"""Prunes networks while PyTorch trains them.

    rearrange(model, example, ratio=0.8)
    sparsifier = Sparsifier(model, ratio=0.8, end=1000)
    sparsifier.prepare()
    for ...:
        loss.backward()
        optimizer.step()
        sparsifier.step()
    sparsifier.squash_mask()
    export(model, example, "pruned.onnx")

Masks are those that `tract_sparse.prune` would choose for the same weights.
"""

from ._export import export
from ._loss import structure_loss
from ._rearrange import rearrange
from ._sparsifier import Mask, Sparsifier

__all__ = ["Mask", "Sparsifier", "export", "rearrange", "structure_loss"]
