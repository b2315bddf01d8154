"""Runs neon-cost over layers, sparsities and cores and prints the table; called by neon-cost.sh."""
import json
import os
import subprocess
import sys
import tempfile

LAYERS = ["128x56", "256x28", "512x14", "1024x7"]
SPARSITIES = [0, 30, 50, 80]
CORES = ["a53", "a55", "a76"]
TRACT = {"a53": "a53", "a55": "a55", "a76": "generic"}  # the kernels that tract picks on that core
RESULT = "benches/results/neon-modelled.md"

tool, program, *only = sys.argv[1:]
targets = os.environ.get("NEON_COST_TARGETS", "neon-a53 neon-a55 neon-a76").split()
if len(targets) != len(CORES):
    sys.exit("NEON_COST_TARGETS needs one target for each of " + ", ".join(CORES))


def total(result, core):
    model = result["models"][core]
    return model["cycles"] + model["miss_cycles"]


def model(core, target, layer, sparsity):
    """What neon-cost says of one run, as a dictionary."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, tool, "--quiet", "--cpu", core, "--cache", "32,512", "--json", out.name, "--",
                   program, layer, "4x4", str(1 - sparsity / 100), target]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit("%s\nfailed: %s" % (done.stderr, " ".join(command)))
        return json.load(open(out.name))


def tract(core, layer):
    """Modelled cycles of stock tract's dense layer, L1 misses included; None if neon-cost has no such baseline."""
    baselines = os.path.join(os.path.dirname(tool), "baselines.json")
    if not os.path.exists(baselines):
        return None
    known = json.load(open(baselines))["results"].get("tract 0.23.9 kind=%s, pw %s" % (TRACT[core], layer))
    per_miss = {"a53": 4, "a55": 8, "a76": 2}[core]
    return known and known["cycles"][core] + per_miss * known["l1_misses"]


lines = [
    "| core | layer | sparsity | kernel for | instructions, M | fmla, M | modelled cycles, M (core alone) | fmla utilisation | "
    "L1 lines per fmla | over tract dense |",
    "|---|---|---|---|---|---|---|---|---|---|",
]
print("\n".join(lines), flush=True)
for core, target in zip(CORES, targets):
    for layer in only[:1] or LAYERS:
        dense = tract(core, layer)
        for sparsity in [int(s) for s in only[1:]] or SPARSITIES:
            r = model(core, target, layer, sparsity)
            m = r["models"][core]
            lines.append("| %s | %s | %d %% | %s | %.3f | %.3f | %.2f (%.2f) | %.0f %% | %.3f | %s |" % (
                core, layer, sparsity, target, r["insns"] / 1e6, r["fmla_4s"] / 1e6, total(r, core) / 1e6,
                m["cycles"] / 1e6, 100 * m["fmla_util"], r["l1_misses"] / r["fmla_4s"],
                "%.2f" % (dense / total(r, core)) if dense else "no baseline"))
            print(lines[-1], flush=True)

if not only and "NEON_COST_TARGETS" not in os.environ:
    os.makedirs(os.path.dirname(RESULT), exist_ok=True)
    with open(RESULT, "w") as f:
        f.write("""# Pointwise 4x4 on Arm cores: modelled, not measured

Written by `scripts/neon-cost.sh`; nothing was timed on an Arm core. Instructions and multiply-adds (`fmla`, four lanes) are exact
counts under emulation. Cycles are modelled from the stream of instructions by the tool neon-cost, and include a flat cost
for each line missed in a first-level cache of 32 KiB; without that cost in brackets.

A layer CxHW has C input and C output channels on a map of HW x HW pixels, in f32, with bias and ReLU6; sparsity is the share
of 4x4 blocks left out. Each core runs the kernel made for it. Utilisation is the share of cycles of the core alone that
its multiply-add pipes are busy. The last column compares with stock tract's dense layer (its kernels for
that core, without activation), modelled by the same tool.

""" + "\n".join(lines) + "\n")
    print("\nwritten to " + RESULT)
