"""What a run is, and the file of those that are done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Optional

RESULTS = Path(__file__).parent / "results"
RUNS = RESULTS / "runs.jsonl"
#: Of every row.
SEEDS = (1, 2, 3)

Record = dict[str, Any]


@dataclass(frozen=True)
class Zeros:
    """Settings of a `tract_sparse.torch.Sparsifier`; begin and end are shares of all steps.

    layers: globs over names of layers and ratios of their own.
    """

    conv1x1: Optional[str] = None
    dwconv3x3: Optional[str] = None
    conv3x3: Optional[str] = None
    fc: Optional[str] = None
    ratio: float = 0.0
    schedule: str = "cubic"
    scope: str = "global"
    begin: float = 0.0
    end: float = 0.5
    frequency: int = 20
    recover: bool = True
    exclude: tuple[str, ...] = ()
    layers: tuple[tuple[str, float], ...] = ()

    def rules(self) -> list[dict[str, Any]]:
        """`layers` as `tract_sparse.torch` takes them."""
        return [{"name": name, "ratio": ratio} for name, ratio in self.layers]


@dataclass(frozen=True)
class Run:
    """A dense network trained for `dense_epochs`, changed, and trained for `epochs` more.

    peak: of the learning rate in the second phase. rearrange: permute channels first, so blocks keep more.
    distill: share of the loss that is the divergence from the dense network. filters: method and share of
    channels to take out. g2g: how a group-to-group sparse network is connected, "static" or "regrow".
    """

    seed: int = 1
    network: str = "mobilenet-v1"
    width: float = 0.5
    data: str = "harder"
    dense_epochs: int = 8
    epochs: int = 4
    peak: float = 0.1
    zeros: Zeros = field(default_factory=Zeros)
    rearrange: bool = False
    distill: float = 0.0
    filters: tuple[str, float] = ("", 0.0)
    g2g: str = ""

    def key(self) -> str:
        """What tells it from other runs: all that is not as usual, so that settings can be added later."""
        return json.dumps(_unusual(self, Run()) | {"seed": self.seed}, sort_keys=True)

    def name(self) -> str:
        """A short name for files."""
        return hashlib.sha256(self.key().encode()).hexdigest()[:12]

    def seeded(self, seed: int) -> Run:
        return replace(self, seed=seed)

    def is_dense(self) -> bool:
        return self.zeros == Zeros() and not self.filters[0] and not self.g2g

    @classmethod
    def read(cls, said: Record) -> Run:
        """A run by what its record says of it."""
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
        if "zeros" in given:
            zeros = dict(given["zeros"])
            for name in ("exclude", "layers"):
                if name in zeros:
                    zeros[name] = tuple(tuple(each) if isinstance(each, list) else each for each in zeros[name])
            given["zeros"] = Zeros(**zeros)
        return cls(**given)


def _unusual(given: Any, usual: Any) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name in (part.name for part in fields(given)):
        value, other = getattr(given, name), getattr(usual, name)
        if value != other:
            said[name] = _unusual(value, other) if isinstance(value, Zeros) else value
    return said


def read(file: Path = RUNS) -> dict[str, Record]:
    """Records by the key of their run; the last of several counts."""
    return {json.dumps(record["run"], sort_keys=True): record for record in lines(file)}


def differences(run: Run, other: Run, done: dict[str, Record]) -> list[float]:
    """Of accuracies, by seed, as far as both have a record."""
    pairs = ((done.get(run.seeded(seed).key()), done.get(other.seeded(seed).key())) for seed in SEEDS)
    return [own["accuracy"] - base["accuracy"] for own, base in pairs if own and base]


def lines(file: Path) -> Iterator[Record]:
    if file.exists():
        for line in file.read_text().splitlines():
            yield json.loads(line)


def append(record: Record, file: Path = RUNS) -> None:
    """Adds a line, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as out:
        out.write(json.dumps(record) + "\n")
