#!/usr/bin/env python3
"""The loops over 4x4 blocks as the assembler has expanded them, one for each class of Arm cores, in docs/neon.md.

    scripts/neon-schedule.py check   fails if what is built is not what docs/neon.md shows
    scripts/neon-schedule.py write   writes it there

Reads the program `neon_operator` as `scripts/neon-cost.sh` builds it, or another that is given as second argument. Needs
objdump for aarch64 (Debian's binutils-aarch64-linux-gnu).
"""
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs/neon.md"
PROGRAM = "aarch64-unknown-linux-gnu/release/examples/neon_operator"
# class of cores, pixels of a tile, multiply-adds of a block
LOOPS = [("neon-a53", 20, 80), ("neon-a55", 20, 80), ("neon-a76", 28, 112)]
# registers that the compiler chooses, by what they are used for: the first group is the register
ROLES = [
    ("blocks", r"subs (x\d+), x\d+, #0x1"),
    ("indices", r"ldr w1[24], \[(x\d+)\], #4"),
    ("stride", r"madd x12, x1[24], (x\d+), x\d+"),
    ("x", r"madd x12, x1[24], \S+, (x\d+)"),
    ("last", r"ldr [qd]\d+, \[x\d+, (x\d+)\]"),
    ("high", r"ldr x\d+, \[x\d+, (x\d+)\]"),
    ("values", r"ldr q0, \[(x\d+)\], #16"),
]


def disassemble(program):
    """Address and text of every instruction."""
    objdump = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", program]
    text = subprocess.run(objdump, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^\s+([0-9a-f]+):\s+(.+?)(?:\s*//.*)?$", text, re.M)
    return [(int(address, 16), " ".join(line.split())) for address, line in lines]


def loops(code, multiply_adds):
    """Every straight loop of so many multiply-adds by lane, without its branch."""
    place = {address: i for i, (address, _) in enumerate(code)}
    for i, (address, line) in enumerate(code):
        target = re.match(r"b\.ne ([0-9a-f]+) ", line)
        start = place.get(int(target[1], 16)) if target else None
        if start is None or start >= i:
            continue
        body = [line for _, line in code[start:i]]
        if sum("fmla" in line and ".s[" in line for line in body) == multiply_adds:
            yield body


def neighbours(body):
    """How often one multiply-add follows another at once."""
    return sum("fmla" in a and "fmla" in b for a, b in zip(body, body[1:]))


def named(body):
    """The loop with names for the registers that the compiler has chosen."""
    text = "\n".join(body)
    for role, pattern in ROLES:
        register = re.search(pattern, text)
        if register:
            text = re.sub(rf"\b{register[1]}\b", f"{{{role}}}", text)
    return text.split("\n")


def shown(body):
    """A line for each multiply-add, with what stands between it and the next."""
    lines = []
    for line in named(body):
        if line.startswith("fmla"):
            lines.append([line])
        elif lines:
            lines[-1].append(line)
        else:
            lines.append(["", line])
    return "\n".join((f"{first:<32}" + "; ".join(rest)).rstrip() for first, *rest in lines)


def loop_of(core, found):
    """The loop of a class of cores, of all that have as many multiply-adds."""
    if core == "neon-a76":
        found = [body for body in found if body[0].startswith("ldr w12, ")]
    else:
        found = [body for body in found if any(re.match(r"mov v\d+\.d\[1\]", line) for line in body)]
    # beside every multiply-add on the A55 something else stands, on the A53 not
    return max(found, key=neighbours, default=None) if core == "neon-a53" else min(found, key=neighbours, default=None)


def sections(code):
    for core, pixels, multiply_adds in LOOPS:
        # what the compiler has made around a loop moves registers
        found = [body for body in loops(code, multiply_adds) if not any(line.startswith("mov x") for line in body)]
        body = loop_of(core, found)
        if body is None:
            sys.exit(f"no loop of {multiply_adds} multiply-adds for {core}")
        yield core, pixels, shown(body)


def main():
    mode = sys.argv[1] if len(sys.argv) > 1 else ""
    if mode not in ("check", "write"):
        sys.exit(__doc__.strip())
    target = Path(os.environ.get("CARGO_TARGET_DIR", PAGE.parent.parent / "target"))
    program = sys.argv[2] if len(sys.argv) > 2 else str(target / PROGRAM)
    page = PAGE.read_text()
    for core, pixels, text in sections(disassemble(program)):
        begin, end = f"<!-- schedule {core}, written by scripts/neon-schedule.py -->", f"<!-- end of {core} -->"
        block = f"{begin}\n<details><summary>{core}: a block by {pixels} pixels</summary>\n\n```text\n{text}\n```\n\n</details>\n{end}"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        if not re.search(pattern, page, re.S):
            sys.exit(f"{PAGE} has no place for {core}: {begin}")
        changed = re.sub(pattern, lambda _: block, page, flags=re.S)
        if mode == "check" and changed != page:
            sys.exit(f"{core}: what is built is not what {PAGE} shows; look at it, then: scripts/neon-schedule.py write")
        page = changed
    if mode == "write":
        PAGE.write_text(page)


main()
