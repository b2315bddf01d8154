"""What the tables have in their rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .runs import Run, Zeros

SHAPES = ("2x1", "4x1", "4x4", "unstructured")
RATIOS = (0.8, 0.5, 0.9, 0.7)
PLAIN = Run(data="plain")
#: Ratios by layer that leave as many multiply-adds as the same ratio in all.
SMALL_DENSER = {
    0.8: (("6", 0.5), ("12", 0.65), ("18", 0.75), ("24", 0.8), ("30", 0.87), ("36", 0.87), ("42", 0.87)),
    0.5: (("6", 0.2), ("12", 0.3), ("18", 0.4), ("24", 0.5), ("30", 0.61), ("36", 0.61), ("42", 0.61)),
}


@dataclass(frozen=True)
class Row:
    """A line of a table; `curve` tells which points of a picture are joined."""

    label: str
    run: Run
    curve: str = ""


@dataclass(frozen=True)
class Table:
    """`base`: label of the row that others are compared with. `narrower`: the curve of dense networks that others are compared
    with at equal work and time. `latency`: whether networks are timed."""

    title: str
    rows: tuple[Row, ...]
    base: str = "dense"
    narrower: str = "dense"
    latency: bool = False


def blocks(shape: str, ratio: float, **other: object) -> Run:
    return Run(zeros=Zeros(conv1x1=shape, ratio=ratio, **other))  # type: ignore[arg-type]


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _m() -> Table:
    rows = [Row("dense", Run(), "dense"), Row("dense, width 0.25", Run(width=0.25), "dense")]
    rows.append(Row("dense, width 0.375", Run(width=0.375), "dense"))
    for shape, ratio in (("2x1", 0.8), ("4x4", 0.5)):
        usual = blocks(shape, ratio)
        rows.append(Row(f"{shape}, {percent(ratio)}", usual, shape))
        rows.append(
            Row(
                f"{shape}, {percent(ratio)}, rearranged",
                replace(usual, rearrange=True),
                f"{shape}, rearranged",
            )
        )
    rows.append(Row("unstructured, 80 %", blocks("unstructured", 0.8), "unstructured"))
    rows.append(Row("4x4, 30 %, rearranged", replace(blocks("4x4", 0.3), rearrange=True), "4x4, rearranged"))
    return Table("The main rows", tuple(rows), latency=True)


def _w() -> Table:
    rows = [Row("dense", Run(), "dense")]
    rows += [Row(f"dense, width {width}", Run(width=width), "dense") for width in (0.25, 0.375)]
    for ratio in RATIOS:
        for shape in SHAPES:
            rows.append(Row(f"{shape}, {percent(ratio)}", blocks(shape, ratio), shape))
        if ratio == 0.8:
            rows += [Row(f"{shape}, 80 %", blocks(shape, 0.8), shape) for shape in ("2x2", "1x4", "2x4")]
    rows.append(Row("3:9", Run(zeros=Zeros(dwconv3x3="3:9")), "3:9"))
    rows.append(Row("dense, width 0.75", Run(width=0.75), "dense"))
    return Table(
        "Accuracy against work: pruned networks beside narrower dense ones", tuple(rows), latency=True
    )


def _l() -> Table:
    wide = Run(width=1.0)
    taught = {"peak": 0.2, "distill": 0.5}
    same = "dense, same recipe"
    rows = [Row("dense", wide, "dense"), Row("dense, distilled, higher rate", replace(wide, **taught), same)]
    for width in (0.5, 0.375, 0.25):
        rows.append(Row(f"dense, width {width}", Run(width=width), "dense"))
    for width in (0.5, 0.375):
        run = replace(Run(width=width), **taught)
        rows.append(Row(f"dense, width {width}, distilled, higher rate", run, same))
    for shape, ratio in (("2x1", 0.8), ("4x4", 0.5)):
        zeros = Zeros(conv1x1=shape, ratio=ratio, layers=SMALL_DENSER[ratio])
        run = replace(wide, zeros=zeros, rearrange=True, **taught)
        rows.append(Row(f"{shape}, {percent(ratio)}, all that helped", run, shape))
    return Table(
        "Width 1: rearranged, small layers denser, distilled, higher rate, beside narrower dense networks",
        tuple(rows),
        latency=True,
    )


def _s() -> Table:
    rows = [Row("dense", Run())]
    for shape, ratio in (("2x1", 0.8), ("4x4", 0.5)):
        usual = blocks(shape, ratio)

        def row(what: str, run: Run) -> None:
            rows.append(Row(f"{shape}, {percent(ratio)}: {what}", run))

        def with_zeros(**other: object) -> Run:
            return blocks(shape, ratio, **other)

        row("cubic to the middle, global, recovering", usual)
        row("uniform", with_zeros(scope="uniform"))
        row("distilled", replace(usual, distill=0.5))
        row("to a quarter", with_zeros(end=0.25))
        row("to three quarters", with_zeros(end=0.75))
        row("linear", with_zeros(schedule="linear"))
        row("one shot", with_zeros(schedule="one-shot"))
        row("not recovering", with_zeros(recover=False))
        row("first two layers spared", with_zeros(exclude=("6", "12")))
        by_size = SMALL_DENSER[ratio]
        row("small layers denser", with_zeros(layers=by_size))
        together = replace(with_zeros(layers=by_size), rearrange=True, distill=0.5)
        row("rearranged, small layers denser, distilled", together)
        row("higher learning rate", replace(usual, peak=0.2))
        row("twice as long", replace(usual, epochs=8))
    rows.append(Row("dense: twice as long", Run(epochs=8)))
    rows.append(Row("dense: higher learning rate", Run(peak=0.2)))
    rows.append(Row("dense: distilled", Run(distill=0.5)))
    for share in ("", "+0.1", "+0.25"):
        rows.append(Row(f"3:9{share}", Run(zeros=Zeros(dwconv3x3=f"3:9{share}"))))
    return Table("Schedule, scope, recovery: what matters", tuple(rows))


def _t1() -> Table:
    shapes = ("2x2", "4x4", "8x8", "16x16")
    rows = [Row("dense", Run()), *(Row(f"{shape}, 30 %", blocks(shape, 0.3)) for shape in shapes)]
    return Table("Groups of Conv1x1 at 30 % (the paper's table 1)", tuple(rows))


def _t2() -> Table:
    rows = [Row("dense", Run())]
    for channels in (1, 4, 8, 16):
        zeros = "3:9" if channels == 16 else f"3:9/{channels}"
        rows.append(Row(f"3:9, groups of {channels}", Run(zeros=Zeros(dwconv3x3=zeros))))
    return Table("Groups of depthwise 3:9 (the paper's table 2)", tuple(rows))


def _t3() -> Table:
    rows = [Row("dense", Run(), "dense")]
    for ratio in (0.1, 0.2, 0.3, 0.4, 0.5):
        zeros = Zeros(conv1x1="4x4", dwconv3x3="3:9", ratio=ratio)
        rows.append(
            Row(
                f"4x4, {percent(ratio)}, and 3:9, rearranged", Run(zeros=zeros, rearrange=True), "4x4 and 3:9"
            )
        )
    for share in (0.1, 0.2, 0.3):
        rows.append(Row(f"filters by FPGM, {percent(share)}", Run(filters=("fpgm", share)), "FPGM"))
    for ratio in (0.3, 0.5):
        rows.append(Row(f"weights, {percent(ratio)}", blocks("unstructured", ratio), "weights"))
    return Table("Kinds of pruning on MobileNet v1 (the paper's table 3)", tuple(rows), latency=True)


def _t5() -> Table:
    rows = []
    for version in ("mobilenet-v1", "mobilenet-v2", "mobilenet-v3"):
        dense = Run(network=version)
        rows.append(Row("dense" if version == "mobilenet-v1" else f"{version}, dense", dense))
        for pattern in ("3:9", "5:9"):
            rows.append(Row(f"{version}, {pattern}", replace(dense, zeros=Zeros(dwconv3x3=pattern))))
    return Table("3:9 and 5:9 on depthwise layers (the paper's table 5)", tuple(rows))


def _t6() -> Table:
    rows = [Row("dense", Run())]
    for ratio in (0.5, 0.3, 0.2, 0.1):
        plain = blocks("4x4", ratio)
        rows.append(Row(f"4x4, {percent(ratio)}", plain))
        rows.append(Row(f"4x4, {percent(ratio)}, rearranged", replace(plain, rearrange=True)))
    for shape, ratio in (("4x1", 0.8), ("2x1", 0.8)):
        rows.append(Row(f"{shape}, {percent(ratio)}", blocks(shape, ratio)))
        rows.append(
            Row(f"{shape}, {percent(ratio)}, rearranged", replace(blocks(shape, ratio), rearrange=True))
        )
    return Table("Rearrangement before cutting (the paper's table 6)", tuple(rows))


def _f8() -> Table:
    dense = Run(network="resnet-20")
    rows = [Row("dense", dense, "dense"), Row("dense, width 0.25", replace(dense, width=0.25), "dense")]
    for ratio in (0.3, 0.5):
        zeros = Zeros(conv3x3=f"5:9:{ratio}", exclude=("0",))
        rows.append(Row(f"5:9 and {percent(ratio)} of 4x4 kernels", replace(dense, zeros=zeros), "5:9"))
    for method in ("l1", "l2", "fpgm", "taylor", "apoz", "mean"):
        for share in (0.2, 0.4):
            run = replace(dense, filters=(method, share))
            rows.append(Row(f"filters by {method}, {percent(share)}", run, method))
    for ratio in (0.5, 0.8):
        zeros = Zeros(conv3x3="unstructured", ratio=ratio, exclude=("0",))
        rows.append(Row(f"weights, {percent(ratio)}", replace(dense, zeros=zeros), "weights"))
    return Table("ResNet-20: accuracy against latency (the paper's figure 8)", tuple(rows), latency=True)


def _g() -> Table:
    dense = replace(PLAIN, network="mlp", width=1.0)
    rows = (
        Row("dense", dense),
        Row("dense, width 0.25", replace(dense, width=0.25)),
        Row("groups to groups, 75 %, static", replace(dense, g2g="static")),
        Row("groups to groups, 75 %, pruned and regrown", replace(dense, g2g="regrow")),
        Row("2x1, 75 %", replace(dense, zeros=Zeros(fc="2x1", ratio=0.75, exclude=("7",)))),
    )
    return Table("A perceptron whose groups are connected to some groups", rows, latency=True)


def _p() -> Table:
    rows = [Row("dense", PLAIN)]
    for shape, ratio in (("4x4", 0.5), ("2x1", 0.8)):
        rows.append(
            Row(f"{shape}, {percent(ratio)}", replace(PLAIN, zeros=Zeros(conv1x1=shape, ratio=ratio)))
        )
    zeros = Zeros(conv1x1="4x4", ratio=0.5)
    rows.append(Row("4x4, 50 %, rearranged", replace(PLAIN, zeros=zeros, rearrange=True)))
    return Table("Plain Fashion-MNIST", tuple(rows))


TABLES = {
    "M": _m(),
    "L": _l(),
    "W": _w(),
    "S": _s(),
    "T1": _t1(),
    "T2": _t2(),
    "T3": _t3(),
    "T5": _t5(),
    "T6": _t6(),
    "F8": _f8(),
    "G": _g(),
    "P": _p(),
}
