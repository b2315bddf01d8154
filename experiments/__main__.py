"""Trains, measures and draws: `python3 -m experiments --help`."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from pathlib import Path

from . import runs, tables
from .runs import SEEDS, Run


def wanted(names: list[str], seeds: list[int], rows: str = "*") -> list[Run]:
    """Runs of the rows of tables whose labels match, seed by seed, each once."""
    found: dict[str, Run] = {}
    for seed in seeds:
        for name in names:
            for row in tables.TABLES[name].rows:
                if not fnmatch.fnmatchcase(row.label, rows):
                    continue
                run = row.run.seeded(seed)
                found.setdefault(run.key(), run)
    return list(found.values())


def network_file(run: Run) -> Path:
    """Where the exported network of a run is kept, outside of git."""
    from . import data

    return data.WORK / "networks" / f"{run.name()}.onnx"


def train(arguments: argparse.Namespace) -> None:
    import numpy as np
    from tract_sparse.torch import export

    from . import data, training

    training.prepare_torch()
    names = arguments.tables or list(tables.TABLES)
    if arguments.quick:
        for run in wanted(names, arguments.seeds or [1], arguments.rows):
            record, _ = training.record(run, quick=True)
            print(f"{run.key()}: {record['accuracy']} %, {record['multiply_adds']} multiply-adds", flush=True)
        return
    todo = wanted(names, arguments.seeds or list(SEEDS), arguments.rows)
    while True:
        done = runs.read()
        missing = [
            run
            for run in todo
            if run.key() not in done or (arguments.networks and not network_file(run).exists())
        ]
        if not missing:
            break
        run = missing[0]
        print(f"{len(missing)} runs to do, now {run.key()}", flush=True)
        record, model = training.record(run)
        file = network_file(run)
        file.parent.mkdir(parents=True, exist_ok=True)
        export(model, training.example(run), file, input_names=["picture"], output_names=["scores"])
        shown = data.test(run.data)[0][: data.SHOWN]
        np.save(file.with_suffix(".npy"), training.outputs(model, shown).numpy())
        known = done.get(run.key())
        if known is None:
            runs.append(record)
        else:
            print(f"  made again, {known['accuracy']} % when it was recorded:", flush=True)
        print(
            f"  {record['accuracy']} %, {record['multiply_adds']} multiply-adds, {record['seconds']} s",
            flush=True,
        )


def draw(arguments: argparse.Namespace) -> None:
    from . import drawing

    drawing.everything()


def latency(arguments: argparse.Namespace) -> None:
    from . import latency as timing

    timing.measure(wanted(arguments.tables or ["W"], [1]), network_file)


def precision(arguments: argparse.Namespace) -> None:
    from . import precision as types

    types.write()


def networks(arguments: argparse.Namespace) -> None:
    from . import shipped

    shipped.write(network_file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m experiments", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train", help="does the runs of tables that are missing in results/runs.jsonl")
    one.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(tables.TABLES)}; all without")
    one.add_argument("--seeds", type=int, nargs="+", help=f"1 to {len(SEEDS)} without")
    one.add_argument(
        "--rows", default="*", metavar="GLOB", help="only rows whose label matches, such as '*80 %%*'"
    )
    one.add_argument(
        "--quick", action="store_true", help="a few pictures, nothing is written: does everything run?"
    )
    one.add_argument(
        "--networks",
        action="store_true",
        help="train again, too, what is recorded but has no exported network in target/experiments (a clone has none): "
        "`latency` and `networks` read those; results stay as they are recorded",
    )
    one.set_defaults(work=train)
    one = commands.add_parser("latency", help="times the networks of tables on the engine and on onnxruntime")
    one.add_argument("tables", nargs="*", metavar="TABLE", help="W without")
    one.set_defaults(work=latency)
    one = commands.add_parser("draw", help="writes tables into README.md, and the pictures")
    one.set_defaults(work=draw)
    one = commands.add_parser("networks", help="writes trained networks, and test pictures, for tests")
    one.set_defaults(work=networks)
    one = commands.add_parser(
        "precision", help="accuracy of the networks for tests in f32, half precision and int8, on all test pictures"
    )
    one.set_defaults(work=precision)
    arguments = parser.parse_args()
    for name in getattr(arguments, "tables", []):
        if name not in tables.TABLES:
            parser.error(f"no table {name!r}: expected {', '.join(tables.TABLES)}")
    try:
        arguments.work(arguments)
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on with what is missing")


if __name__ == "__main__":
    main()
