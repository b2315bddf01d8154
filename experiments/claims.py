"""Sentences of the paper, and aims of this project, beside what was found."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from . import runs, tables
from .latency import Times
from .runs import SEEDS, Record


@dataclass(frozen=True)
class Claim:
    """That a row is no more than `within` below another, or above it."""

    text: str
    table: str
    row: str
    other: str = "dense"
    within: float = 0.0
    above: bool = False


PAPER = (
    Claim("30 % of Conv1x1 in 4x4 groups costs 0.15", "T1", "4x4, 30 %", within=0.15),
    Claim("rearranged, blocks cost less, at 30 %", "T6", "4x4, 30 %, rearranged", "4x4, 30 %", above=True),
    Claim("rearranged, blocks cost less, at 20 %", "T6", "4x4, 20 %, rearranged", "4x4, 20 %", above=True),
    Claim("rearranged, blocks cost less, at 10 %", "T6", "4x4, 10 %, rearranged", "4x4, 10 %", above=True),
    Claim("rearranged, blocks cost less, at 50 %", "T6", "4x4, 50 %, rearranged", "4x4, 50 %", above=True),
    Claim("smaller groups cost less than large ones", "T1", "2x2, 30 %", "16x16, 30 %", above=True),
    Claim("3:9 on all depthwise layers costs nothing", "T2", "3:9, groups of 16"),
    Claim("groups of 16 channels cost no more than of 4", "T2", "3:9, groups of 16", "3:9, groups of 4"),
    Claim(
        "3:9 costs less than 5:9 on depthwise layers",
        "T5",
        "mobilenet-v1, 3:9",
        "mobilenet-v1, 5:9",
        above=True,
    ),
    Claim("half of single weights can go for nothing", "T3", "weights, 50 %"),
)
AIMS = (
    Claim("2x1, 80 %: at most 2 below dense", "M", "2x1, 80 %", within=2),
    Claim("2x1, 80 %, rearranged: at most 2 below dense", "M", "2x1, 80 %, rearranged", within=2),
    Claim("4x4, 50 %, rearranged: at most 1.2 below dense", "M", "4x4, 50 %, rearranged", within=1.2),
    Claim(
        "width 1, 2x1, 80 %, all that helped: at most 2 below dense of the same recipe",
        "L",
        "2x1, 80 %, all that helped",
        "dense, distilled, higher rate",
        within=2,
    ),
    Claim("and below dense of the usual one", "L", "2x1, 80 %, all that helped", within=2),
    Claim(
        "width 1, 4x4, 50 %, all that helped: at most 1.2 below dense of the same recipe",
        "L",
        "4x4, 50 %, all that helped",
        "dense, distilled, higher rate",
        within=1.2,
    ),
    Claim("and below dense of the usual one", "L", "4x4, 50 %, all that helped", within=1.2),
    Claim("plain Fashion-MNIST, 4x4, 50 %: at most 0.4 below dense", "P", "4x4, 50 %", within=0.4),
)


@dataclass(frozen=True)
class Speed:
    """That the network of a row takes less time than that of another: `factor` times as fast, by a column of latencies."""

    text: str
    table: str
    row: str
    factor: float = 1.0
    other: str = "dense"
    column: str = "engine_ms"


SPEEDS = tuple(
    Speed(text, table, row, factor, other, column)
    for table, row, wanted in (
        ("M", "4x4, 50 %", 1.5),
        ("M", "2x1, 80 %", 2.2),
        ("L", "4x4, 50 %, all that helped", 1.5),
        ("L", "2x1, 80 %, all that helped", 2.2),
    )
    for text, factor, other, column in (
        (f"table {table}: {row}: {wanted} times as fast as its own dense network", wanted, "dense", "engine_ms"),
        (f"table {table}: {row}: faster than onnxruntime's dense run", 1.0, "dense", "onnxruntime_ms"),
    )
)


def _settings() -> tuple[Claim, ...]:
    """Every setting of table S beside the usual one of the same zeros."""
    found = []
    usual: dict[str, str] = {}
    for row in tables.TABLES["S"].rows:
        zeros, colon, what = row.label.partition(": ")
        if not colon or zeros == "dense":
            continue
        if zeros not in usual:
            usual[zeros] = row.label
        else:
            found.append(Claim(f"{zeros}: {what}", "S", row.label, usual[zeros], above=True))
    found.append(Claim("dense: higher learning rate", "S", "dense: higher learning rate", above=True))
    found.append(Claim("dense: distilled", "S", "dense: distilled", above=True))
    return tuple(found)


SETTINGS = _settings()


def differences(claim: Claim, done: dict[str, Record]) -> list[float]:
    """By seed, as far as both rows have a run."""
    rows = {row.label: row.run for row in tables.TABLES[claim.table].rows}
    return runs.differences(rows[claim.row], rows[claim.other], done)


def verdict(claim: Claim, found: list[float]) -> str:
    mean = statistics.mean(found)
    if len(found) == 1:
        holds = mean > 0 if claim.above else mean >= -claim.within
        return f"{'yes' if holds else 'no'}, of one run"
    spread = statistics.stdev(found)
    margin = mean if claim.above else mean + claim.within
    return "inside the spread" if abs(margin) <= spread else "yes" if margin > 0 else "no"


def text(title: str, question: str, claims: tuple[Claim, ...], done: dict[str, Record]) -> str:
    """A table in Markdown of those that something is known of; empty if there are none."""
    lines = []
    for claim in claims:
        found = differences(claim, done)
        if found:
            spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
            figure = f"{statistics.mean(found):+.2f}{spread} ({len(found)} of {len(SEEDS)} seeds)"
            lines.append(f"| {claim.text} | {figure} | {verdict(claim, found)} |")
    return f"| {title} | here | {question} |\n|---|---|---|\n" + "\n".join(lines) if lines else ""


def speeds(title: str, question: str, times: Times) -> str:
    """The same of times; those of a table are of one machine."""
    lines = []
    for speed in SPEEDS:
        rows = {row.label: row.run for row in tables.TABLES[speed.table].rows}
        found = times.of(list(rows.values()))
        own, other = (found.get(rows[label].seeded(SEEDS[0]).key()) for label in (speed.row, speed.other))
        if own and other:
            factor = other[speed.column] / own["engine_ms"]
            lines.append(f"| {speed.text} | {factor:.2f} times | {'yes' if factor >= speed.factor else 'no'} |")
    return f"| {title} | here | {question} |\n|---|---|---|\n" + "\n".join(lines) if lines else ""
