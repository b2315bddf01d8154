"""Runs neon-cost over operators and cores: tables, their comparison with committed counts, cost tables; called by neon-cost.sh."""
import concurrent.futures
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile

CORES = ["a53", "a55", "a76"]
# What a core runs without us: the kernels that tract picks on it, XNNPACK's dense kernel for it.
TRACT = {"a53": "a53", "a55": "a55", "a76": "generic"}
PER_MISS = {"a53": 4, "a55": 8, "a76": 2}  # cycles that neon-cost adds for a line missed in the first level
LAYERS = ["128x56", "256x28", "512x14", "1024x7"]
SPARSITIES = [0, 30, 50, 80]
WIDTHS = {"unstructured": 1, "2x1": 2, "4x1": 4}  # columns that XNNPACK's sparse kernels take together
TRACT_NAMES = {"depthwise 128x56": "dw 128 128 56 1", "depthwise 512x14": "dw 512 512 14 1",
               "spatial 64x8": "c3 64 64 8 1", "spatial 16x32": "c3 16 16 32 1"}
OTHERS = [("depthwise", layer, weights) for layer in ("128x56", "512x14", "128x56/2") for weights in ("dense", "3:9")]
OTHERS += [("depthwise", "240x28", "5x5"), ("depthwise", "144x56/2", "5x5")]
OTHERS += [("spatial", layer, weights) for layer in ("64x8", "16x32") for weights in ("dense", "5:9")]
OTHERS += [("spatial", "3x32x224/2", "dense")]
RESULT, COUNTS = "benches/results/neon-modelled.md", "benches/results/neon-modelled.json"
NETWORK = "benches/results/neon-network.md"
# Other types than f32: the word for each, its results, its share of weights that are there, how its lanes are called, and what
# else is to be said.
KINDS = {"half": "f16", "int8": "int8"}
COMMAND = {kind: word for word, kind in KINDS.items()}
BESIDE = {"f16": "benches/results/neon-half.md", "int8": "benches/results/neon-int8.md"}
DENSITY = {"f16": 0.7, "int8": 0.5}
LANES = {"f16": "f16 (pairs of channels)", "int8": "int8 (quads of channels, dot products)"}
ABOUT = {
    "f16": "The classifier stays in f32 in both; rounding the picture to pairs is counted, too.",
    "int8": "All layers are integer; rounding the picture to quads is counted, too.",
}
# Depthwise and pointwise layers of MobileNet-v1: input and output channels, the side of the input, the stride; and how often.
MOBILENET = [(32, 64, 112, 1, 1), (64, 128, 112, 2, 1), (128, 128, 56, 1, 1), (128, 256, 56, 2, 1), (256, 256, 28, 1, 1),
             (256, 512, 28, 2, 1), (512, 512, 14, 1, 5), (512, 1024, 14, 2, 1), (1024, 1024, 7, 1, 1)]
# 3x3 layers for the lines half/spatial of a cost table, each with these weights.
SPATIAL_CASES = [(layer, weights) for layer in ("16x32", "32x16", "64x8", "64x14", "16x56", "64x64x16/2", "128x7", "8x24x56/2")
                 for weights in ("dense", "5:9", "5:9:0.5")] + [("3x32x112/2", "dense"), ("3x16x96/2", "dense")]
# 3x3 layers of stride 1 of ResNet-18, and of stride 2: channels, the side of the input; and how often.
RESNET = [("64x56", 4), ("64x128x56/2", 1), ("128x28", 3), ("128x256x28/2", 1), ("256x14", 3), ("256x512x14/2", 1), ("512x7", 3)]
# Cases for a cost table: of a key, and the largest. In-order models take a second for five million multiply-adds.
CASES_OF_A_KEY, MOST_KILOMACS = 14, 12_000
GIGAHERTZ = 2  # of all cores, for want of a better: choices depend on ratios of times alone
# Counts are exact for one compiler; another one may schedule the code around the loops a little differently.
SLACK_INSTRUCTIONS, SLACK_CYCLES = 1.01, 1.03

tool, mode, program, *only = sys.argv[1:]
sys.path.insert(0, os.path.dirname(os.path.abspath(tool)))
sys.dont_write_bytecode = True
baselines_file = os.path.join(os.path.dirname(tool), "baselines.json")
baselines = json.load(open(baselines_file))["results"] if os.path.exists(baselines_file) else {}


def count(core, *arguments, blocks=False, environment=None):
    """What neon-cost says of one run of `program`, as a dictionary; what was printed and the text of its hottest block besides."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, tool, "--cpu", core, "--cache", "32,512", "--json", out.name, "--blocks",
                   "1" if blocks else "0", "--", program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, **(environment or {})))
        if done.returncode != 0:
            sys.exit("%s\nfailed: %s" % (done.stderr, " ".join(command)))
        result = json.load(open(out.name))
        result["printed"] = done.stderr.split("\n")
        result["block"] = [line.strip() for line in done.stdout.split("\nblock ")[-1].split("\n")[1:] if line.strip()]
        return result


def alone(result, core):
    return result["models"][core]["cycles"]


def total(result, core):
    return alone(result, core) + result["models"][core]["miss_cycles"]


def baseline(core, name):
    """Modelled cycles of something that neon-cost knows, L1 misses included, and without them; None if it has no such."""
    known = baselines.get(name)
    return known and (known["cycles"][core] + PER_MISS[core] * known["l1_misses"], known["cycles"][core])


def tract(core, name):
    return baseline(core, "tract 0.23.9 kind=%s, %s" % (TRACT[core], name))


def spmm(core, width, layer, sparsity):
    kernel = {1: "32x1 neonfma pipelined", 2: "32x2 neonfma", 4: "32x4 neonfma (clang 14)"}[width]
    return baseline(core, "xnnpack f32-spmm %s, pointwise %s, %d %% sparse" % (kernel, layer, sparsity))


def ratio(other, own):
    return "%.2f" % (other / own) if other else "no baseline"


def inner_loop(core, block):
    """Cycles that 80 multiply-adds of a loop take after many rounds, those of 4 x 4 weights on 20 pixels: text of its instructions
    to cycles."""
    import inorder
    import neon_cost
    if core in inorder.CORES:
        instructions = [inorder.Insn(text) for text in block]
        rounds = [inorder.simulate(inorder.CORES[core](), instructions * n) for n in (50, 150)]
    else:
        texts = [neon_cost.mca_text(text) for text in block]
        rounds = [neon_cost.run_mca(neon_cost.MODELS[core][1], [texts], n)[0][0] for n in (50, 150)]
    return (rounds[1] - rounds[0]) / 100 * 80 / sum("fmla" in text for text in block)


def cells(core, result):
    m = result["models"][core]
    return "%.3f | %.3f | %.2f (%.2f) | %.0f %% | %.3f" % (
        result["insns"] / 1e6, result["fmla_4s"] / 1e6, total(result, core) / 1e6, m["cycles"] / 1e6,
        100 * m["fmla_util"], result["l1_misses"] / result["fmla_4s"])


HEAD = "instructions, M | fmla, M | modelled cycles, M (core alone) | fmla utilisation | L1 lines per fmla"


def table(title, columns, rows):
    head = "| %s |" % " | ".join(columns)
    return ["## " + title, "", head, "|" + "---|" * (head.count("|") - 1)] + ["| %s |" % " | ".join(row) for row in rows] + [""]


def goal(text, got, wanted, up=True):
    """A row of the figures: what is wanted on each core, what the model says, whether that is enough."""
    def met(g, w):
        return g >= w if up else g <= w
    row = [text]
    for core in CORES:
        if got.get(core) is None:
            row.append("no baseline")
        else:
            digits = "%.0f" if wanted[core] > 10 else "%.3f" if wanted[core] < 0.1 else "%.2f"
            verdict = "" if met(float(digits % got[core]), wanted[core]) else ", short of it"
            row.append((digits + " (%s%s)") % (got[core], wanted[core], verdict))
    return row


def everything(operators):
    """Counts of every operator and core, or only of these operators."""
    jobs = {}
    for core in CORES:
        target = "neon-" + core
        for layer in LAYERS:
            for sparsity in SPARSITIES:
                jobs[core, "pointwise", layer, "4x4:%g" % (1 - sparsity / 100)] = target
                for form in WIDTHS:
                    if sparsity:
                        jobs[core, "pointwise", layer, "%s:%g" % (form, 1 - sparsity / 100)] = target
        for operator, layer, weights in OTHERS:
            jobs[core, operator, layer, weights] = target
    unknown = set(operators) - {job[1] for job in jobs}
    if unknown:
        sys.exit("no operator is called %s: pointwise, depthwise or spatial" % ", ".join(sorted(unknown)))
    jobs = {job: target for job, target in jobs.items() if not operators or job[1] in operators}
    def one(job):
        loop = job[1:] == ("pointwise", "256x28", "4x4:0.5")
        return job, count(job[0], *job[1:], jobs[job], blocks=loop)
    return dict(in_parallel(jobs, one))


def tables(results):
    def get(core, *job):
        return results[(core, *job)]
    figures = []
    loops = {core: inner_loop(core, get(core, "pointwise", "256x28", "4x4:0.5")["block"]) for core in CORES}
    figures.append(goal("cycles of one 4x4 block x 20 pixels (80 multiply-adds), at most", loops, dict(a53=106, a55=84, a76=41), up=False))
    for text, weights, wanted in [("at most 50 % sparse", ["4x4:1", "4x4:0.7", "4x4:0.5"], dict(a53=71, a55=89, a76=90)),
                                  ("80 % sparse", ["4x4:0.2"], dict(a53=65, a55=79, a76=79))]:
        lowest = {core: min(100 * get(core, "pointwise", layer, w)["models"][core]["fmla_util"]
                            for layer in LAYERS[1:] for w in weights) for core in CORES}
        figures.append(goal("fmla utilisation, C >= 256, %s, lowest, %%" % text, lowest, wanted))
    for sparsity, wanted in [(0, dict(a53=.96, a55=.96, a76=.96)), (30, dict(a53=1.72, a55=1.45, a76=1.5)),
                             (50, dict(a53=2.35, a55=2.0, a76=2.05)), (80, dict(a53=4.9, a55=4.0, a76=4.2))]:
        got = {}
        for core in CORES:
            dense, own = tract(core, "pw 256x28"), get(core, "pointwise", "256x28", "4x4:%g" % (1 - sparsity / 100))
            got[core] = dense and dense[0] / total(own, core)
        figures.append(goal("over tract dense, 256x28, %d %% sparse" % sparsity, got, wanted))
    for text, layers, weights, most in [("C <= 256, at most 50 % sparse", LAYERS[:2], ["4x4:1", "4x4:0.7", "4x4:0.5"], .03),
                                        ("C = 128, 80 % sparse", LAYERS[:1], ["4x4:0.2"], .03),
                                        ("C = 256, 80 % sparse", LAYERS[1:2], ["4x4:0.2"], .03),
                                        ("C > 256, at most 50 % sparse", LAYERS[2:], ["4x4:1", "4x4:0.7", "4x4:0.5"], .03),
                                        ("C > 256, 80 % sparse", LAYERS[2:], ["4x4:0.2"], .08)]:
        lines = {core: max(get(core, "pointwise", layer, w)["l1_misses"] / get(core, "pointwise", layer, w)["fmla_4s"]
                           for layer in layers for w in weights) for core in CORES}
        figures.append(goal("L1 lines per fmla, %s, highest" % text, lines, dict.fromkeys(CORES, most), up=False))
    for layer in ("128x56", "512x14"):
        over, dense = {}, {}
        for core in CORES:
            own, stock = get(core, "depthwise", layer, "3:9"), tract(core, TRACT_NAMES["depthwise " + layer])
            over[core] = stock and stock[1] / alone(own, core)
            dense[core] = alone(get(core, "depthwise", layer, "dense"), core) / alone(own, core)
        figures.append(goal("depthwise 3:9, %s, over tract, core alone" % layer, over, dict.fromkeys(CORES, 4.3)))
        figures.append(goal("depthwise 3:9, %s, over our dense kernel" % layer, dense, dict.fromkeys(CORES, 1.2)))
    for layer, wanted in [("64x8", 2.6), ("16x32", 3.4)]:
        over = {}
        for core in CORES:
            stock = tract(core, TRACT_NAMES["spatial " + layer])
            over[core] = stock and stock[1] / alone(get(core, "spatial", layer, "5:9"), core)
        figures.append(goal("3x3 convolution 5:9, %s, over tract, core alone" % layer, over, dict.fromkeys(CORES, wanted)))

    lines = table("Figures", ["figure", "a53 (wanted)", "a55 (wanted)", "a76 (wanted)"], figures)
    rows = []
    for core in CORES:
        for layer in LAYERS:
            dense = tract(core, "pw " + layer)
            for sparsity in SPARSITIES:
                r = get(core, "pointwise", layer, "4x4:%g" % (1 - sparsity / 100))
                rows.append([core, layer, "%d %%" % sparsity, cells(core, r), ratio(dense and dense[0], total(r, core))])
    lines += table("Pointwise, 4x4 blocks", ["core", "layer", "sparsity", HEAD, "over tract dense"], rows)
    rows = []
    for core in CORES:
        for layer in LAYERS:
            for form, width in WIDTHS.items():
                for sparsity in SPARSITIES[1:]:
                    r = get(core, "pointwise", layer, "%s:%g" % (form, 1 - sparsity / 100))
                    known = [k for k in (spmm(core, w, layer, sparsity) for w in (1, 2, 4)) if k]
                    same, dense = spmm(core, width, layer, sparsity), tract(core, "pw " + layer)
                    rows.append([core, layer, form, "%d %%" % sparsity, cells(core, r),
                                 ratio(dense and dense[0], total(r, core)), ratio(same and same[0], total(r, core)),
                                 ratio(known and min(known)[0], total(r, core))])
    lines += table("Pointwise, rows", ["core", "layer", "format", "sparsity", HEAD, "over tract dense",
                                       "over XNNPACK, same format", "over XNNPACK's best"], rows)
    rows = []
    for core in CORES:
        for operator, layer, weights in OTHERS:
            r, name = get(core, operator, layer, weights), TRACT_NAMES.get("%s %s" % (operator, layer))
            stock = name and tract(core, name)
            dense = results.get((core, operator, layer, "dense"))
            rows.append([core, operator, layer, weights, cells(core, r), ratio(stock and stock[1], alone(r, core)),
                         ratio(dense and weights != "dense" and alone(dense, core), alone(r, core))])
    lines += table("Depthwise and spatial", ["core", "operator", "layer", "weights", HEAD, "over tract dense, core alone",
                                             "over our dense kernel, core alone"], rows)
    return lines


WRITTEN = "Run on %s with `%%s`.\n\n" % datetime.date.today()
PREFACE = """# NEON operators on Arm cores: modelled, not measured

Written by `scripts/neon-cost.sh`; nothing was timed on an Arm core. Instructions and multiply-adds (`fmla`, four lanes) are exact
counts under emulation. Cycles are modelled from the stream of instructions by the tool neon-cost, and include a flat cost
for each line missed in a first-level cache of 32 KiB (least recently used, no prefetcher); without that cost in brackets.

A layer CxHW has C input and C output channels on a map of HW x HW pixels, in f32, with bias and ReLU6, /2 is a stride; sparsity is
the share of weight groups left out. Each core runs the kernel made for it. Utilisation is the share of cycles of the core alone
that its multiply-add pipes are busy. Stock tract's dense layers (its kernels for that core, without activation) and XNNPACK's
sparse kernels are modelled by the same tool. Pointwise layers are compared with first-level misses on both sides; depthwise and
spatial ones by the core alone, as the figures that they are held against.
XNNPACK's "best" is the best of its kernels for 1, 2 and 4 neighbouring output channels, each on weights pruned for it.

**Lines per fmla at 80 %.** Few multiply-adds are left for every line of input, output and weights. Kernels read planes in place
where a channel has few weights (`PointwiseKernel::planes`), and where planes are whole lines their tiles are, too: 16 pixels. With
a share d of the blocks kept, a tile of C channels has 4 C C d multiply-adds and asks for C lines of input, C of output and
17 / 256 C C d of weights and indices: per multiply-add 1 / (2 C d) + 17 / 1024, which at d = 0.2 is 0.026 for C = 256 and 0.036 for
C = 128: that is above 0.03 before any line is pushed out by another one. The planes of 128x56 are besides 196 lines apart,
which puts a tile of them into 32 of the 128 sets of this cache. A panel of such tiles asks for 0.031, because between tiles it
leaves weights where they are, and takes 11 % more cycles, lines included (A55).

**Depthwise 3:9 on maps of 14 pixels.** Three rows of a tile of 8 pixels, with six of nine taps, are 36 multiply-adds and 36 other
instructions on whole vectors that no pattern spares (columns shifted together, bias, clamp, ends of rows), besides 9 loads and
3 stores. Cores that work in order start one of them a cycle, and loads keep the rest waiting for 2 (A53) or 3 cycles (A55): about
100 cycles, so that 18 multiply-adds more, those of our dense kernel, are 1.17 to 1.19 times as much. The set-up of
tiles, a sixth of the instructions, is alike for both. Tiles of 16 pixels, on wider maps, have fewer ends and less set-up.

**3x3 convolutions** include the copy of their input with its padding, which is 3 to 4 % of these layers; the stock layer of the same
tool includes its own.

"""


def compare(results):
    """What has become worse than the committed counts: lines of text."""
    worse = []
    before = json.load(open(COUNTS))
    for job, r in results.items():
        name = " ".join(job)
        old = before.get(name)
        if not old:
            print("new, without a committed count: " + name)
        elif r["insns"] > SLACK_INSTRUCTIONS * old["instructions"] or total(r, job[0]) > SLACK_CYCLES * old["cycles"]:
            worse.append("%s: %.0f instructions, committed %.0f; %.0f modelled cycles, committed %.0f" % (
                name, r["insns"], old["instructions"], total(r, job[0]), old["cycles"]))
    return worse


def in_parallel(jobs, one):
    """one(job) of every job, in order, as many at a time as there are processors; says how far it is."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = []
        for result in pool.map(one, jobs):
            results.append(result)
            print("\r%d of %d" % (len(results), len(jobs)), end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


def write(path, text):
    with open(path + ".new", "w") as f:
        f.write(text)
    os.replace(path + ".new", path)


def network():
    rows = []
    for core in CORES:
        kind = {"TRACT_CPU_AARCH64_KIND": TRACT[core], "TRACT_SPARSE_TARGET": "neon-" + core}
        stock, sparse = (count(core, engine, environment=kind) for engine in ("stock", "sparse"))
        row = [core]
        for r in (stock, sparse):
            row += ["%.1f" % (r["insns"] / 1e6), "%.1f (%.1f)" % (total(r, core) / 1e6, alone(r, core) / 1e6)]
        own = sum(f.get(core, 0) for name, f in sparse["functions"].items() if name.startswith("sparse_kernels"))
        rows.append(row + ["%.0f %%" % (100 * own / alone(sparse, core)), "%.2f" % (total(stock, core) / total(sparse, core))])
        print("\r%s done" % core, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    lines = table("MobileNet-v1, 30 % of 4x4 blocks and 3:9 depthwise", [
        "core", "stock: instructions, M", "modelled cycles, M (core alone)", "sparse: instructions, M",
        "modelled cycles, M (core alone)", "of these in our kernels", "stock / sparse"], rows)
    text = """# A whole network on Arm cores: modelled, not measured

Written by `scripts/neon-cost.sh network`; nothing was timed on an Arm core. The program `neon-network` loads the built-in
MobileNet-v1 (224 x 224, batch 1, f32, one thread), once with stock tract 0.23.9 and once with this extension, runs it twice
under emulation and marks the second run: every instruction of an inference is counted, all operators included, those that stay
stock too. Cycles are modelled over evenly spaced stretches of that run, with a flat cost for lines missed in a
first-level cache of 32 KiB, as in `neon-modelled.md`; without that cost in brackets. Stock tract runs its kernels for that core
(`TRACT_CPU_AARCH64_KIND`; on a Cortex-A76 these are the generic ones), the extension those of `TRACT_SPARSE_TARGET`. Which layers it
takes follows from the cost table of that core, which is fitted to modelled cycles as well (`scripts/neon-cost.sh costs`).

For comparison: the paper (arXiv 2310.19509) reports 1.27 times for this network at 30 %, measured on a Snapdragon 855 against its own
dense kernels. The figures here are against stock tract, whose depthwise kernels are slow, so the two are no like for like.

""" + WRITTEN % "scripts/neon-cost.sh network" + "\n".join(lines)
    print("\n".join(lines))
    write(NETWORK, text)
    print("written to " + NETWORK)


def beside_f32(kind):
    """Layers of MobileNet-v1 in f32 and in f16 or int8, on the cores that have instructions for these."""
    layers = [("spatial", "3x32x224/2", "dense", 1)]
    for ic, oc, side, stride, times in MOBILENET:
        layers.append(("depthwise", "%dx%d%s" % (ic, side, "/2" if stride == 2 else ""), "3:9", times))
        layers.append(("pointwise", "%dx%dx%d" % (ic, oc, side // stride), "4x4:%g" % DENSITY[kind], times))
    layers.append(("pointwise", "1024x1000x1", "4x4:%g" % DENSITY[kind], 1))
    single = {len(layers) - 1} if kind == "f16" else set()  # what stays in f32
    packed = "3x224"
    cores = ("a55", "a76")
    jobs = [(core, i, of) for core in cores for i in range(len(layers)) for of in ("f32", kind) if of == "f32" or i not in single]
    jobs += [(core, None, kind) for core in cores]

    def one(job):
        core, i, of = job
        layer = ("pack", packed, "none") if i is None else layers[i][:3]
        return count(core, *layer, "neon-" + core, of)

    results = dict(zip(jobs, in_parallel(jobs, one)))
    rows = []
    for core in cores:
        sums = {"f32": 0, kind: 0}
        for i, (operator, layer, weights, times) in enumerate(layers):
            f32 = results[core, i, "f32"]
            other = results.get((core, i, kind), f32)
            sums["f32"] += times * total(f32, core)
            sums[kind] += times * total(other, core)
            row = [core, operator, layer, "%d" % times]
            for r in (f32, other):
                row += ["%.3f" % (r["insns"] / 1e6), "%.2f (%.2f)" % (total(r, core) / 1e6, alone(r, core) / 1e6)]
            rows.append(row + ["%.2f" % (total(f32, core) / total(other, core))])
        pack = results[core, None, kind]
        sums[kind] += total(pack, core)
        rows.append([core, "rounding to lanes", packed, "1", "", "", "%.3f" % (pack["insns"] / 1e6),
                     "%.2f (%.2f)" % (total(pack, core) / 1e6, alone(pack, core) / 1e6), ""])
        rows.append([core, "**all**", "", "", "", "%.2f" % (sums["f32"] / 1e6), "", "%.2f" % (sums[kind] / 1e6),
                     "**%.2f**" % (sums["f32"] / sums[kind])])
    columns = ["core", "operator", "layer", "times", "f32: instructions, M", "modelled cycles, M (core alone)",
               kind + ": instructions, M", "modelled cycles, M (core alone)", "f32 / " + kind]
    lines = table("MobileNet-v1, %.0f %% of 4x4 blocks and 3:9 depthwise" % (100 - 100 * DENSITY[kind]), columns, rows)
    if kind == "f16":
        for weights in ("5:9", "5:9:0.5"):
            lines += table("ResNet-18, 3x3 layers, " + weights + " (half of the kernels absent)" * (weights != "5:9"), columns,
                           resnet(kind, weights, cores))
    command = "scripts/neon-cost.sh " + COMMAND[kind]
    text = """# %s beside f32 on Arm cores: modelled, not measured

Written by `%s`; nothing was timed on an Arm core. Every layer of MobileNet-v1 (224 x 224) by itself, by the
kernels of that core in f32 and in %s, counted and modelled as in `neon-modelled.md`, lines missed in a
first-level cache included. %s Pooling is left out of both. Wants a disassembler that knows these instructions, and a model of an
A76 (LLVM 17).

""" % (kind, command, LANES[kind], ABOUT[kind]) + WRITTEN % command + "\n".join(lines)
    print("\n".join(lines))
    write(BESIDE[kind], text)
    print("written to " + BESIDE[kind])


def resnet(kind, weights, cores):
    """Rows of the 3x3 layers of ResNet-18, as those of MobileNet-v1."""
    jobs = [(core, layer, of) for core in cores for layer, _ in RESNET for of in ("f32", kind)]
    results = dict(in_parallel(jobs, lambda job: (job, count(job[0], "spatial", job[1], weights, "neon-" + job[0], job[2]))))
    rows = []
    for core in cores:
        sums = [0, 0]
        for layer, times in RESNET:
            both = [results[core, layer, of] for of in ("f32", kind)]
            row = [core, "spatial", layer, "%d" % times]
            for i, r in enumerate(both):
                sums[i] += times * total(r, core)
                row += ["%.3f" % (r["insns"] / 1e6), "%.2f (%.2f)" % (total(r, core) / 1e6, alone(r, core) / 1e6)]
            rows.append(row + ["%.2f" % (total(both[0], core) / total(both[1], core))])
        rows.append([core, "**all**", "", "", "", "%.2f" % (sums[0] / 1e6), "", "%.2f" % (sums[1] / 1e6),
                     "**%.2f**" % (sums[0] / sums[1])])
    return rows


def half_costs(fit):
    """Lines half/spatial of the cost tables of cores that have f16: layers by `program`, not all cases that `fit` knows."""
    jobs = [(core, form, layer, weights) for core in ("a55", "a76") for form in ("4x1", "2x1", "unstructured")
            for layer, weights in SPATIAL_CASES]

    def one(job):
        core, form, layer, weights = job
        r = count(core, "spatial", layer, weights, "neon-" + core, "f16", form)
        stored = next(int(line.split()[2]) for line in r["printed"] if line.startswith("weights stored"))
        # As Work::spatial of the rewriter counts it.
        tile = next(line for line in r["printed"] if line.startswith("spatial_")).split("_")[2].split("x")
        size, stride = (layer.split("/") + ["1"])[:2]
        sizes = [int(n) for n in size.split("x")]
        (ic, oc), side = (sizes[0], sizes[-2]), sizes[-1]
        out = -(-side // int(stride))
        lanes = 8 * min(out * -(-out // 8), -(-out * (out + 1) // 8))
        work = stored * lanes, -(-oc // int(tile[0])) * -(-lanes // int(tile[1])), ic * side * side
        return core, "half/spatial/%s %d %d %d %.0f" % (form, *work, total(r, core) / GIGAHERTZ)

    samples = in_parallel(jobs, one)
    for core in ("a55", "a76"):
        merge(core, fitted(fit, core, [sample for of, sample in samples if of == core]), "scripts/neon-cost.sh half-costs")


def listed(core):
    """Numbers of the cases that there are kernels for on a core, by key, without the largest ones."""
    emulator = os.environ.get("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "").split()
    run = emulator + [program, "--cases", "--target", "neon-" + core]
    by_key = {}
    for line in subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n"):
        if line:
            number, key, kilomacs = line.split()
            if int(kilomacs) <= MOST_KILOMACS:
                by_key.setdefault(key, []).append(number)
    return by_key


def costs(fit, *prefixes):
    """Cost tables of the cores, from modelled cycles of some of the cases that are measured on other machines; or only the lines
    in them whose keys begin so, as far as a core has kernels for them."""
    by_core = dict(zip(CORES, in_parallel(CORES, listed)))
    by_core = {core: {key: numbers for key, numbers in by_key.items() if not prefixes or key.startswith(prefixes)}
               for core, by_key in by_core.items()}
    unknown = [prefix for prefix in prefixes if not any(key.startswith(prefix) for by_key in by_core.values() for key in by_key)]
    if unknown:
        sys.exit("no key of a case begins with %s" % ", ".join(unknown))
    # At random, for layers and densities take turns in the list; the same ones every time, and of all formats, whose constants are
    # compared with each other: keys that have as many cases have the same ones in the same order.
    jobs = [(core, key, number) for core, by_key in by_core.items() for key, numbers in by_key.items()
            for number in random.Random(len(numbers)).sample(numbers, min(len(numbers), CASES_OF_A_KEY))]

    def one(job):
        core, key, number = job
        r = count(core, "--case", number, "--target", "neon-" + core, environment={"TRACT_CPU_AARCH64_KIND": TRACT[core]})
        work = next(line for line in r["printed"] if line.split(" ")[0] == key)
        return core, "%s %.0f" % (work, total(r, core) / GIGAHERTZ)

    samples = in_parallel(jobs, one)
    for core in by_core:
        mine = [sample for of, sample in samples if of == core]
        if not mine:
            continue
        machine = "Cortex-%s, modelled by neon-cost from counted instructions and not measured, at %g GHz" % (
            core.upper(), GIGAHERTZ)
        merge(core, fitted(fit, core, mine, "--machine", machine, "--command", "scripts/neon-cost.sh costs"),
              None if not prefixes else "scripts/neon-cost.sh costs " + " ".join(prefixes))


def fitted(fit, core, samples, *arguments):
    """Lines of a cost table."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as given:
        given.write("\n".join(samples))
        given.flush()
        text = subprocess.run([fit, "--samples", given.name, "--target", "neon-" + core, *arguments], capture_output=True,
                              text=True, check=True).stdout
    return [line for line in text.split("\n") if line]


def merge(core, lines, command=None):
    """Writes lines into the table of a core in the place of those of the same keys, or behind all; with a command, the header stays
    and says what was fitted by it."""
    path = "rewriter/src/costs/neon-%s.txt" % core
    known = [line for line in open(path).read().split("\n") if line]
    new = {line.split(" ")[0]: line for line in lines if line[0] != "#"}
    head = [line for line in (known if command else lines) if line[0] == "#"]
    if command:
        said = "# %s: `%s`" % (", ".join(sorted({key[:key.rindex("/") + 1] for key in new})), command)
        head = [line for line in head if not line.startswith(said)] + ["%s, %s." % (said, datetime.date.today())]
    kept = [new.pop(line.split(" ")[0], line) for line in known if line[0] != "#"]
    write(path, "\n".join(head + kept + list(new.values())) + "\n")
    print("written to " + path)


if mode == "network":
    network()
elif mode in KINDS:
    beside_f32(KINDS[mode])
elif mode == "costs":
    costs(*only)
elif mode == "half-costs":
    half_costs(*only)
elif mode == "check":
    worse = compare(everything(only))
    if worse:
        sys.exit("worse than %s:\n%s" % (COUNTS, "\n".join(worse)))
    print("no operator is worse than in " + COUNTS)
elif only:
    layer, *sparsities = only
    rows = []
    for core in CORES:
        dense = tract(core, "pw " + layer)
        for sparsity in [int(s) for s in sparsities] or SPARSITIES:
            r = count(core, "pointwise", layer, "4x4:%g" % (1 - sparsity / 100), "neon-" + core)
            rows.append([core, layer, "%d %%" % sparsity, cells(core, r), ratio(dense and dense[0], total(r, core))])
    print("\n".join(table("Pointwise, 4x4 blocks", ["core", "layer", "sparsity", HEAD, "over tract dense"], rows)))
else:
    results = everything([])
    lines = tables(results)
    print("\n".join(lines))
    counts = {" ".join(job): {"instructions": round(r["insns"]), "fmla": round(r["fmla_4s"]), "l1_lines": round(r["l1_misses"]),
                              "cycles": round(total(r, job[0]))} for job, r in results.items()}
    write(RESULT, PREFACE + WRITTEN % "scripts/neon-cost.sh" + "\n".join(lines))
    write(COUNTS, json.dumps(counts, indent=1, sort_keys=True) + "\n")
    print("written to %s and %s" % (RESULT, COUNTS))
