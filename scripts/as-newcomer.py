#!/usr/bin/env python3
"""Does what README.md says, word for word, in a fresh folder: installs, depends, runs.

    scripts/as-newcomer.py            everything, with an empty cargo home: compiles tract twice, ten minutes each on two cores
    scripts/as-newcomer.py --built    the commands of tract-sparse alone, with what is in target/release

The commands and what they print are those of README.md's `console` block, the program and its dependencies those of its first
`rust` block and its `toml` block; ADDRESS becomes this checkout, as it is committed. Printed lines must be those of the README
in kind: numbers and the names of processors' instruction sets may differ, and `...` stands for any lines. Fails with the first
line that is another.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = r"\b(?:scalar|avx2|avx-vnni|avx512-wide|avx512|neon-a\d+|neon|wasm)\b"


def fail(text):
    sys.exit(f"error: {text}")


def blocks(readme, language):
    return [block.strip("\n") for block in re.findall(rf"^```{language}\n(.*?)^```$", readme, re.M | re.S)]


def steps(block):
    """Commands, without comments, and the lines that they print."""
    found = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((re.sub(r"\s+#.*", "", line[2:]), []))
        elif found:
            found[-1][1].append(line)
        else:
            fail(f"README.md: {line!r} stands before every command")
    return found


def kind(line):
    """A line without what differs from run to run and from machine to machine."""
    line = re.sub(TARGETS, "TARGET", line)
    line = re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", line)
    return " ".join(line.split())


def compare(command, expected, printed):
    """Fails unless `printed` is what `expected` shows, in kind."""
    printed = [line for line in printed.splitlines() if line.strip()]
    expected = [line for line in expected if line.strip()]
    at, skipping = 0, False
    for line in expected:
        if line.strip() == "...":
            skipping = True
            continue
        found = [n for n in range(at, len(printed)) if kind(printed[n]) == kind(line)]
        if not found or (found[0] > at and not skipping):
            got = printed[at] if at < len(printed) else "nothing more"
            fail(f"{command}\n  README.md says: {line}\n  it prints:      {got}")
        at, skipping = found[0] + 1, False
    if at < len(printed) and expected and not skipping:
        fail(f"{command}\n  README.md ends, it prints more: {printed[at]}")


def run(command, expected, folder, env):
    print(f"$ {command}", flush=True)
    done = subprocess.run(shlex.split(command), cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        fail(f"{command}: exit code {done.returncode}")
    compare(command, expected, done.stdout)


def program(app, readme, address, env):
    """A new project with the program and the dependencies of the README."""
    run(f"cargo new --quiet {app.name}", [], app.parent, env)
    dependencies = blocks(readme, "toml")[0].replace("ADDRESS", address)
    manifest = (app / "Cargo.toml").read_text()
    (app / "Cargo.toml").write_text(re.sub(r"\[dependencies\]\s*$", "", manifest) + dependencies + "\n")
    lines = blocks(readme, "rust")[0].splitlines()
    uses = [line for line in lines if line.startswith("use ")]
    body = ["    " + line for line in lines if line not in uses]
    main = [*uses, "fn main() -> TractResult<()> {", *body, "    Ok(())", "}", ""]
    (app / "src/main.rs").write_text("\n".join(main))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built", action="store_true", help="what target/release has, and no cargo")
    args = parser.parse_args()
    readme = (ROOT / "README.md").read_text()
    console = [step for block in blocks(readme, "console") for step in steps(block)]
    if not console:
        fail("README.md has no console block")
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        folder = Path(folder)
        env = {name: value for name, value in os.environ.items() if not name.startswith(("CARGO_", "RUSTFLAGS", "TRACT_SPARSE"))}
        if args.built:
            bin = ROOT / "target/release"
            if not (bin / "tract-sparse").is_file():
                fail("target/release has no tract-sparse: cargo build --release")
        else:
            env["CARGO_HOME"] = str(folder / "cargo-home")
            bin = folder / "cargo-home/bin"
            run(f"git clone --quiet {shlex.quote(str(ROOT))} clone", [], folder, env)
        env["PATH"] = f"{bin}{os.pathsep}{env['PATH']}"
        app, address = folder / "app", (folder / "clone").as_uri()
        ran = 0
        for command, expected in console:
            cargo = command.startswith("cargo ")
            if cargo and args.built:
                continue
            here = folder
            if command.startswith("cargo run"):
                program(app, readme, address, env)
                (app / "pruned.onnx").write_bytes((folder / "pruned.onnx").read_bytes())
                here = app
            run(command.replace("ADDRESS", address), expected, here, env)
            ran += 1
    print(f"README.md says what happens: {ran} commands")


if __name__ == "__main__":
    main()
