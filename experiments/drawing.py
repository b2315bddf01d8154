"""Tables and pictures from the results that are there."""

from __future__ import annotations

import html
import math
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

from . import claims, latency, precision, runs, tables
from .runs import SEEDS, Record, Run
from .tables import Row, Table

PAGE = Path(__file__).parent / "README.md"
GUIDE = Path(__file__).parent.parent / "docs" / "training.md"
COLOURS = (
    "#222222",
    "#1b7837",
    "#2166ac",
    "#b2182b",
    "#e08214",
    "#762a83",
    "#35978f",
    "#bf812d",
    "#888888",
    "#d6604d",
)

Point = tuple[float, float, float]
Axis = Callable[[Row, list[Record]], Optional[float]]


def records(run: Run, done: dict[str, Record]) -> list[Optional[Record]]:
    """Records of a run by seed, None where it is missing."""
    return [done.get(run.seeded(seed).key()) for seed in SEEDS]


def spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def against(differences: Sequence[float]) -> str:
    """Mean difference of seeds, and whether it is more than their spread."""
    if not differences:
        return ""
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.2f}"
    width = spread(differences)
    return f"{mean:+.2f} ± {width:.2f}" + (" (inside the spread)" if abs(mean) <= width else "")


def above_dense(table: Table, row: Row, done: dict[str, Record], x: Axis) -> Optional[float]:
    """How far a row lies above the dense ones of the same seed at the same x.

    The mean of the seeds that have the row and the most points of the curve: one with fewer lies lower. None for dense rows.
    """
    if row.curve.startswith("dense"):
        return None
    found: dict[int, list[float]] = {}
    for seed in SEEDS:
        own = done.get(row.run.seeded(seed).key())
        curve = []
        for other in table.rows:
            record = done.get(other.run.seeded(seed).key()) if other.curve == table.narrower else None
            at = x(other, [record]) if record else None
            if record and at is not None:
                curve.append((at, record["accuracy"]))
        at = x(row, [own]) if own else None
        value = above(sorted(curve), at, own["accuracy"]) if own and at is not None else None
        if value is not None:
            found.setdefault(len(curve), []).append(value)
    return statistics.mean(found[max(found)]) if found else None


def above(curve: list[tuple[float, float]], at: float, accuracy: float) -> Optional[float]:
    """How far a point lies above the curve, drawn through the logarithms of x; None beyond its ends."""
    for (left, low), (right, high) in zip(curve, curve[1:]):
        if left <= at <= right:
            part = math.log(at / left) / math.log(right / left)
            return accuracy - (low + part * (high - low))
    return None


def table_text(name: str, table: Table, done: dict[str, Record], times: dict[str, Record]) -> Optional[str]:
    """A table in Markdown, with times of one machine; None if it has no run but of the row that all are compared with."""
    base = next(row for row in table.rows if row.label == table.base)
    lines = []
    missing = 0
    beside = sum(any(records(row.run, done)) for row in table.rows if row.curve == table.narrower) > 1
    timed = table.latency and bool(times)
    for row in table.rows:
        own = records(row.run, done)
        there = [record for record in own if record]
        missing += len(own) - len(there)
        if not there:
            continue
        values = [record["accuracy"] for record in there]
        accuracy = f"{statistics.mean(values):.2f}" + (f" ± {spread(values):.2f}" if len(values) > 1 else "")
        accuracy += "" if len(there) == len(SEEDS) else f" ({len(there)} of {len(SEEDS)} runs)"
        amount = statistics.mean(record["multiply_adds"] for record in there) / 1e6
        difference = "" if row is base else against(runs.differences(row.run, base.run, done))
        cells = [row.label, f"{amount:.2f} M", accuracy, difference]
        if beside:
            cells.append(_signed(above_dense(table, row, done, work)))
        if timed:
            time = times.get(row.run.seeded(1).key())
            cells += (
                ["", "", ""] if time is None else [f"{1000 * time[what]:.0f}" for what in latency.COLUMNS]
            )
            if beside:
                cells.append(_signed(above_dense(table, row, done, lambda row, _: microseconds(row, times))))
        lines.append("| " + " | ".join(cells) + " |")
    if not any(record for row in table.rows if row is not base for record in records(row.run, done)):
        return None
    head = ["", "multiply-adds", "accuracy", f"against {table.base}"]
    head += ["above narrower dense at equal work"] if beside else []
    head += list(latency.HEADINGS) if timed else []
    head += ["above narrower dense at equal time"] if timed and beside else []
    note = f"\n\n{missing} of {len(SEEDS) * len(table.rows)} runs are missing." if missing else ""
    titles = "| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|"
    floor = times.get(latency.FLOOR.key())
    if timed and floor:
        named = zip(latency.COLUMNS, latency.HEADINGS)
        parts = ", ".join(f"{1000 * floor[what]:.0f} ({heading})" for what, heading in named)
        said = (
            f"Times of {latency.named(times)}. The same layers with eight channels each take {parts}: "
            "what a run costs besides arithmetic."
        )
        note = f"\n\n{said}{note}"
    return f"### {name}: {table.title}\n\n{titles}\n" + "\n".join(lines) + note


def shapes_text(done: dict[str, Record]) -> str:
    """What shapes cost at 80 %, best first, beside narrower dense networks of as many multiply-adds: table W in a line."""
    table = tables.TABLES["W"]
    base = next(row for row in table.rows if row.label == table.base)
    rows = {row.curve: row for row in table.rows if row.run.zeros.ratio == 0.8}
    lost = {shape: runs.differences(base.run, row.run, done) for shape, row in rows.items()}
    known = {shape: found for shape, found in lost.items() if found}
    if not known:
        return "No network of table W has been trained with zeros yet."
    means = {shape: statistics.mean(found) for shape, found in known.items()}
    narrower = above_dense(table, rows["2x1"], done, work)
    if narrower is not None:
        means["narrower, as many multiply-adds"] = means["2x1"] + narrower
    shapes = sorted(means, key=lambda shape: means[shape])
    fewest = min(map(len, known.values()))
    seeds = f"{fewest} to {len(SEEDS)} seeds" if fewest < len(SEEDS) else f"{len(SEEDS)} seeds"
    widest = max((spread(found) for found in known.values() if len(found) > 1), default=0.0)
    head, rule = "| | " + " | ".join(shapes) + " |", "|---" * (len(shapes) + 1) + "|"
    line = "| lost | " + " | ".join(f"{means[shape]:.1f}" for shape in shapes) + " |"
    said = f"Points of accuracy lost at 80 % zeros, the same steps in all ({seeds}; standard deviations up to {widest:.1f}):"
    return "\n".join([said, "", head, rule, line])


def _signed(value: Optional[float]) -> str:
    return "" if value is None else f"{value:+.2f}"


def work(_: Row, own: list[Record]) -> Optional[float]:
    """Million multiply-adds."""
    return statistics.mean(record["multiply_adds"] for record in own) / 1e6


def points(rows: Sequence[Row], done: dict[str, Record], x: Axis) -> dict[str, list[Point]]:
    """Points by curve: x, mean accuracy, its spread."""
    curves: dict[str, list[Point]] = {}
    for row in rows:
        there = [record for record in records(row.run, done) if record]
        at = x(row, there) if there else None
        if row.curve and at is not None:
            values = [record["accuracy"] for record in there]
            width = spread(values) if len(values) > 1 else 0.0
            curves.setdefault(row.curve, []).append((at, statistics.mean(values), width))
    return {name: sorted(found) for name, found in curves.items()}


def picture(curves: dict[str, list[Point]], title: str, unit: str) -> str:
    """Curves of accuracy as SVG."""
    wide, high, left, top, right, bottom = 720, 460, 60, 40, 130, 50
    everything = [point for found in curves.values() for point in found]
    most = max(point[0] for point in everything) * 1.05
    low = int(min(point[1] - point[2] for point in everything))
    up = int(max(point[1] + point[2] for point in everything)) + 1

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x / most * (wide - left - right), high - bottom - (y - low) / (up - low) * (
            high - top - bottom
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{wide}" height="{high}" fill="#fff"/>',
        f'<text x="{left}" y="22" font-size="15">{html.escape(title)}</text>',
    ]
    for y in range(low, up + 1, max(1, (up - low) // 8)):
        _, height = at(0, y)
        parts.append(f'<path d="M{left} {height:.1f}H{wide - right}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{height + 4:.1f}" text-anchor="end">{y} %</text>')
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough)
    for tick in range(int(most / step) + 1):
        place, _ = at(step * tick, low)
        parts.append(
            f'<text x="{place:.1f}" y="{high - bottom + 18}" text-anchor="middle">{step * tick:.4g}</text>'
        )
    middle = (left + wide - right) / 2
    parts.append(f'<text x="{middle}" y="{high - 10}" text-anchor="middle">{html.escape(unit)}</text>')
    for number, (name, found) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(x, y) for x, y, _ in found]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        thick = 3 if name.startswith("dense") else 1.5
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{thick}"/>')
        for (x, y), (value, mean, width) in zip(places, found):
            (_, above), (_, below) = at(value, mean + width), at(value, mean - width)
            parts.append(f'<path d="M{x:.1f} {above:.1f}V{below:.1f}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
        height = top + 18 * number + 10
        parts.append(f'<path d="M{wide - right + 12} {height - 4}h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{wide - right + 36}" y="{height}">{html.escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def everything() -> None:
    """Writes the tables into the page, and the pictures beside the results."""
    done, all_times = runs.read(), latency.read()
    sections = []
    for name, table in tables.TABLES.items():
        times = all_times.of([row.run for row in table.rows])
        text = table_text(name, table, done, times)
        if text is None:
            continue
        for kind, curves, unit in (
            ("work", points(table.rows, done, work), "million multiply-adds"),
            (
                "latency",
                points(table.rows, done, lambda row, _, times=times: microseconds(row, times)),  # type: ignore[misc]
                "microseconds on this engine",
            ),
        ):
            if table.latency and sum(map(len, curves.values())) > 1:
                file = runs.RESULTS / f"{name}-{kind}.svg"
                file.write_text(picture(curves, table.title, unit))
                text += f"\n\n![{table.title}: accuracy against {unit}](results/{file.name})"
        sections.append(text)
    numbers = sorted({(record["torch"], record["cpu"]) for record in done.values()})
    made = "; ".join(f"PyTorch {version} on {cpu}" for version, cpu in numbers)
    held = [
        claims.text("the paper says", "held", claims.PAPER, done),
        claims.text("aimed at", "reached", claims.AIMS, done),
        claims.speeds("aimed at", "reached", all_times),
        claims.text("changed setting (table S)", "helped", claims.SETTINGS, done),
    ]
    body = f"{len(done)} runs, {made}.\n\n" + "\n\n".join([*filter(None, held), *sections, *filter(None, [precision.text()])])
    between(PAGE, "tables", body)
    between(GUIDE, "shapes", shapes_text(done))


def between(page: Path, name: str, body: str) -> None:
    """Puts text between the marks of a name in a page."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(re.escape(start) + ".*" + re.escape(end), re.DOTALL)
    text, found = pattern.subn(lambda _: f"{start}\n{body}\n{end}", page.read_text())
    if found != 1:
        raise ValueError(f"{page}: {found} places between {start} and {end}, expected one")
    page.write_text(text)


def microseconds(row: Row, times: dict[str, Record]) -> Optional[float]:
    """Median time on this engine."""
    time = times.get(row.run.seeded(1).key())
    return None if time is None else 1000 * time["engine_ms"]
