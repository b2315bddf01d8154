"""Runs pruned ONNX networks on sparse kernels, and makes networks sparse.

    session = tract_sparse.Session("pruned.onnx")
    outputs = session.run(None, {"input": array})

`tract_sparse.torch` prunes networks while PyTorch trains them; `python -m tract_sparse` is the command line.
"""

from ._tract_sparse import NodeArg, Session, __version__, convert, groups, inspect, mask, masks, prune, zoo

__all__ = ["NodeArg", "Session", "__version__", "convert", "groups", "inspect", "mask", "masks", "prune", "zoo"]
