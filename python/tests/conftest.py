"""What tests share: models, and how near outputs have to be."""

import os
from pathlib import Path

import numpy as np
import pytest
import tract_sparse

# Two engines add up the same products in another order, over fifty layers: up to 2.4e-5 of the largest value was seen between
# onnxruntime and tract. A wrong weight shows at 1e-2 and more.
TOLERANCE = 1e-4


def models():
    """The trained networks, if TRACT_SPARSE_MODELS says where they are."""
    folder = os.environ.get("TRACT_SPARSE_MODELS")
    return sorted(Path(folder).glob("*.onnx")) if folder else []


def agree(got, expected):
    """Fails unless lists of arrays are the same but for rounding."""
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        scale = np.abs(theirs).max()
        assert np.abs(ours - theirs).max() <= TOLERANCE * scale, (np.abs(ours - theirs).max(), scale)


def noise(session, seed=1):
    """Seeded normal values for every input of a session of any engine."""
    generator = np.random.default_rng(seed)
    values = {}
    for value in session.get_inputs():
        assert value.type == "tensor(float)"
        shape = [2 if isinstance(size, str) else size for size in value.shape]
        values[value.name] = generator.standard_normal(shape).astype(np.float32)
    return values


@pytest.fixture(scope="session")
def pruned(tmp_path_factory):
    """A small network, half of whose blocks are zero, as a file."""
    path = tmp_path_factory.mktemp("models") / "pruned.onnx"
    tract_sparse.zoo("mobilenet-v1", path, conv1x1="4x4:0.5", dwconv3x3="3:9", hw=64, width=0.5)
    return path


@pytest.fixture(scope="session")
def dense(tmp_path_factory):
    """A small network without zeros, as a file."""
    path = tmp_path_factory.mktemp("models") / "dense.onnx"
    tract_sparse.zoo("mobilenet-v2", path, hw=32, width=0.5)
    return path
