"""Fashion-MNIST, and a harder twin that separates networks by their capacity."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

SOURCE = Path("/usr/share/datasets/fashion-mnist")
#: Checkpoints and made pictures, outside of git.
WORK = Path(__file__).parent.parent / "target" / "experiments"
CANVAS = 32
PATCH = 9
TEST_SEED = 1_000_003
#: How many test pictures are kept with the trained networks.
SHOWN = 200

Pictures = tuple[np.ndarray, np.ndarray]


def plain(part: str) -> Pictures:
    """Pictures as uint8 of [n, 28, 28] and classes as int64 of [n]; part is "train" or "t10k"."""
    if not SOURCE.is_dir():
        raise FileNotFoundError(f"{SOURCE} is missing: install Debian's package dataset-fashion-mnist")

    def read(kind: str, header: int) -> np.ndarray:
        with gzip.open(SOURCE / f"{part}-{kind}-ubyte.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=header)

    return read("images-idx3", 16).reshape(-1, 28, 28), read("labels-idx1", 8).astype(np.int64)


def harden(pictures: np.ndarray, seed: int) -> np.ndarray:
    """Turns each picture by any angle, scales it to 0.75-1, moves it by up to a tenth on a canvas of 32
    pixels, puts two 9x9 patches of other pictures over it, and adds noise of 0.1: uint8 of [n, 32, 32]."""
    rng = np.random.default_rng(seed)
    n = len(pictures)
    angle = rng.uniform(0, 2 * np.pi, n)
    zoom = CANVAS / 28 / rng.uniform(0.75, 1, n)
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(n, 2, 2)
    matrix = rotation * zoom[:, None, None]
    moved = rng.uniform(-0.2, 0.2, (n, 2, 1))
    theta = torch.from_numpy(np.concatenate([matrix, matrix @ moved], 2).astype(np.float32))
    other = rng.integers(n, size=(n, 2))
    source = rng.integers(28 - PATCH + 1, size=(n, 2, 2))
    place = rng.integers(CANVAS - PATCH + 1, size=(n, 2, 2))
    out = np.empty((n, CANVAS, CANVAS), np.uint8)
    span = np.arange(PATCH)
    for start in range(0, n, 4096):
        part = slice(start, start + 4096)
        given = torch.from_numpy(pictures[part].astype(np.float32))[:, None]
        grid = F.affine_grid(theta[part], [len(given), 1, CANVAS, CANVAS], align_corners=False)
        canvas = F.grid_sample(given, grid, align_corners=False)[:, 0].numpy()
        rows = np.arange(len(canvas))[:, None, None]
        for patch in range(2):
            y, x = (place[part, patch, axis, None] + span for axis in (0, 1))
            from_y, from_x = (source[part, patch, axis, None] + span for axis in (0, 1))
            cut = pictures[other[part, patch, None, None], from_y[:, :, None], from_x[:, None, :]]
            canvas[rows, y[:, :, None], x[:, None, :]] = cut
        canvas += rng.standard_normal(canvas.shape, np.float32) * 25.5
        out[part] = np.clip(np.rint(canvas), 0, 255)
    return out


def epoch(data: str, number: int, quick: bool = False) -> Pictures:
    """Pictures to train on in an epoch, the same for all networks and seeds; those of "harder" are new."""
    return _made(data, "train", number, quick)


def test(data: str, quick: bool = False) -> Pictures:
    """Pictures to judge by."""
    return _made(data, "t10k", TEST_SEED, quick)


def _made(data: str, part: str, seed: int, quick: bool) -> Pictures:
    pictures, classes = plain(part)
    if quick:
        pictures, classes = pictures[:512], classes[:512]
    if data == "plain":
        return pictures, classes
    if data != "harder":
        raise ValueError(f"data {data!r}: expected plain or harder")
    if quick:
        return harden(pictures, seed), classes
    file = WORK / "pictures" / f"{part}-{seed}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_suffix(".part.npy")
        np.save(half, harden(pictures, seed))
        half.replace(file)
    return np.load(file, mmap_mode="r"), classes
