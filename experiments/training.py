"""Trains a network, dense and then with zeros."""

from __future__ import annotations

import copy
import datetime
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tract_sparse.torch import Sparsifier

from . import data, methods, networks
from .runs import Record, Run

BATCH = 128
#: Peak of the learning rate of the first, dense phase.
DENSE_PEAK = 0.2
DECAY = 5e-5
CHECKPOINTS = data.WORK / "checkpoints"

Step = Callable[[], None]


def prepare_torch() -> None:
    """One thread, and no time lost on denormal numbers."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def tensor(pictures: np.ndarray) -> torch.Tensor:
    """Pictures of bytes as the networks take them: float32 of [n, 1, h, w] in 0..1."""
    values = torch.from_numpy(np.array(pictures)).float().div_(255)[:, None]
    return values.contiguous(memory_format=torch.channels_last)


def example(run: Run) -> torch.Tensor:
    return torch.zeros(1, 1, *((28, 28) if run.data == "plain" else (data.CANVAS, data.CANVAS)))


def train(
    model: nn.Module,
    run: Run,
    epochs: range,
    peak: float,
    quick: bool = False,
    teacher: Optional[nn.Module] = None,
    sparsify: Optional[Callable[[int], Step]] = None,
) -> None:
    """Trains for some epochs of the pictures, in place.

    sparsify: given the number of steps, what to do after each of them.
    """
    model.to(memory_format=torch.channels_last).train()
    per_epoch = (512 if quick else 60_000) // BATCH
    steps = per_epoch * len(epochs)
    after = sparsify(steps) if sparsify else None
    # flat parameters are those of norms, and biases
    parameters = [part for part in model.parameters() if part.requires_grad]
    groups = [
        {"params": [part for part in parameters if part.dim() > 1], "weight_decay": DECAY},
        {"params": [part for part in parameters if part.dim() <= 1], "weight_decay": 0.0},
    ]
    fused = {"fused": True} if networks.COMPILED else {}
    optimizer = torch.optim.SGD(groups, peak, momentum=0.9, nesterov=True, **fused)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=steps, pct_start=0.2, cycle_momentum=False
    )

    def loss(x: torch.Tensor, y: torch.Tensor, taught: Optional[torch.Tensor]) -> torch.Tensor:
        out = model(x)
        own = F.cross_entropy(out, y)
        if taught is None:
            return own
        warm = 2.0
        apart = F.kl_div(
            F.log_softmax(out / warm, 1),
            F.log_softmax(taught / warm, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - run.distill) * own + run.distill * warm**2 * apart

    if networks.COMPILED and not quick:
        torch._dynamo.reset()
        loss = torch.compile(loss, dynamic=False)
        teacher = torch.compile(teacher, dynamic=False) if teacher is not None else None
    shuffle = np.random.default_rng([run.seed, epochs.start])
    for number in epochs:
        pictures, classes = data.epoch(run.data, number, quick)
        order = shuffle.permutation(len(pictures))
        for start in range(0, per_epoch * BATCH, BATCH):
            chosen = order[start : start + BATCH]
            x, y = tensor(pictures[chosen]), torch.from_numpy(classes[chosen])
            taught = None
            if teacher is not None:
                with torch.no_grad():
                    taught = teacher(x)
            optimizer.zero_grad(set_to_none=True)
            loss(x, y, taught).backward()
            optimizer.step()
            scheduler.step()
            if after:
                after()


def outputs(model: nn.Module, pictures: np.ndarray) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return torch.cat(
            [model(tensor(pictures[start : start + 500])) for start in range(0, len(pictures), 500)]
        )


def accuracy(model: nn.Module, run: Run, quick: bool = False) -> float:
    """Per cent of the test pictures that get their class."""
    pictures, classes = data.test(run.data, quick)
    return 100 * float((outputs(model, pictures).argmax(1).numpy() == classes).mean())


def dense(run: Run, quick: bool = False) -> nn.Module:
    """The dense network that a run starts from: shared by all runs of a network, width, data and seed."""
    model = networks.made(run.network, run.width, run.seed)
    if run.g2g:
        methods.connect(model, run.seed)
    name = f"{run.network}-{run.width}-{run.data}-{run.dense_epochs}{'-g2g' if run.g2g else ''}-{run.seed}.pt"
    file = CHECKPOINTS / name
    if not quick and file.exists():
        model.load_state_dict(torch.load(file))
        return model
    train(model, run, range(run.dense_epochs), DENSE_PEAK, quick, sparsify=methods.regrowing(model, run))
    if not quick:
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_suffix(".part")
        torch.save(model.state_dict(), half)
        half.replace(file)
    return model


def sparsifier(model: nn.Module, run: Run, steps: int) -> Sparsifier:
    zeros = run.zeros
    return Sparsifier(
        model,
        conv1x1=zeros.conv1x1,
        dwconv3x3=zeros.dwconv3x3,
        conv3x3=zeros.conv3x3,
        fc=zeros.fc,
        ratio=zeros.ratio,
        schedule=zeros.schedule,
        scope=zeros.scope,
        exclude=list(zeros.exclude) or None,
        begin=max(1, int(zeros.begin * steps)),
        end=max(1, int(zeros.end * steps)),
        frequency=zeros.frequency,
        recover=zeros.recover,
        layers=zeros.rules(),
    )


def trained(run: Run, quick: bool = False) -> nn.Module:
    """A network trained as a run says; masks are still on its layers."""
    model = dense(run, quick)
    teacher = copy.deepcopy(model).eval() if run.distill else None
    if run.rearrange:
        model = methods.rearranged(model, example(run), run, quick)
    if run.filters[0]:
        methods.take_out_filters(model, example(run), run, quick)
    epochs = range(run.dense_epochs, run.dense_epochs + run.epochs)
    zeros = run.zeros
    if zeros.dwconv3x3 == "5:9":
        train(
            model,
            run,
            epochs,
            run.peak,
            quick,
            teacher,
            lambda steps: methods.five_of_nine(model, run, steps),
        )
    elif not (zeros.conv1x1 or zeros.dwconv3x3 or zeros.conv3x3 or zeros.fc):
        train(model, run, epochs, run.peak, quick, teacher, methods.regrowing(model, run))
    else:
        masks: list[Sparsifier] = []

        def sparsify(steps: int) -> Step:
            masks.append(sparsifier(model, run, steps))
            masks[0].prepare()
            return masks[0].step

        train(model, run, epochs, run.peak, quick, teacher, sparsify)
    methods.disconnect(model)
    return model


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def record(run: Run, quick: bool = False) -> tuple[Record, nn.Module]:
    """Does a run; what is known of it then, and its network."""
    start, busy = time.monotonic(), time.process_time()
    model = trained(run, quick)
    found = {
        "run": json.loads(run.key()),
        "accuracy": round(accuracy(model, run, quick), 2),
        "multiply_adds": networks.multiply_adds(model, example(run)),
        "epochs": [run.dense_epochs, run.epochs],
        "torch": torch.__version__,
        "bfloat16": networks.LOW_PRECISION,
        "cpu": cpu(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(time.process_time() - busy, 1),
    }
    return found, model
