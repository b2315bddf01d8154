"""Networks sized for one core: small enough that every channel counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 10


class Conv1x1(nn.Conv2d):
    """A 1x1 convolution that, with `LOW_PRECISION`, trains with products of bfloat16, summed in float32; infers in float32."""

    def __init__(self, ic: int, oc: int) -> None:
        super().__init__(ic, oc, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and LOW_PRECISION:
            return F.conv2d(x.bfloat16(), self.weight.bfloat16()).float()
        return super().forward(x)


#: Whether steps are compiled: torch 2 and newer.
COMPILED = hasattr(torch, "compile")
#: Whether 1x1 convolutions train in bfloat16: it pays where a compiler fuses the conversions and the processor multiplies it.
#: Without such instructions it takes six to thirty times as long as float32 (measured on a Zen 3).
LOW_PRECISION = COMPILED and getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def rounded(channels: float) -> int:
    """Channels in multiples of eight."""
    return max(8, int(channels + 4) // 8 * 8)


class Gate(nn.Module):
    """Squeeze and excitation of MobileNet v3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = rounded(channels / 4)
        self.squeeze = nn.Conv2d(channels, inner, 1)
        self.excite = nn.Conv2d(inner, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.excite(gate))


def norm(channels: int, activation: str = "relu") -> list[nn.Module]:
    layers: list[nn.Module] = [nn.BatchNorm2d(channels)]
    if activation != "none":
        layers.append({"relu": nn.ReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish}[activation]())
    return layers


def depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


def mobilenet_v1(width: float) -> nn.Module:
    """A convolution and seven separable ones."""
    channels = rounded(32 * width)
    layers = [nn.Conv2d(1, channels, 3, 2, 1, bias=False), *norm(channels)]
    for wanted, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1), (256, 1)):
        out = rounded(wanted * width)
        layers += [depthwise(channels, stride), *norm(channels), Conv1x1(channels, out), *norm(out)]
        channels = out
    return nn.Sequential(*layers, *head(channels))


class Inverted(nn.Module):
    """The block of MobileNet v2 and v3."""

    def __init__(self, ic: int, oc: int, stride: int, activation: str, gated: bool, expand: int = 4) -> None:
        super().__init__()
        inner = ic * expand
        self.body = nn.Sequential(
            Conv1x1(ic, inner),
            *norm(inner, activation),
            depthwise(inner, stride),
            *norm(inner, activation),
            *([Gate(inner)] if gated else []),
            Conv1x1(inner, oc),
            *norm(oc, "none"),
        )
        self.same = stride == 1 and ic == oc

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return x + y if self.same else y


def _inverted(width: float, activation: str, last: str, gated: bool) -> nn.Module:
    channels = rounded(32 * width)
    layers = [nn.Conv2d(1, channels, 3, 2, 1, bias=False), *norm(channels, activation)]
    for wanted, stride in ((32, 2), (32, 1), (64, 2), (64, 1), (64, 1)):
        out = rounded(wanted * width)
        layers.append(Inverted(channels, out, stride, activation, gated))
        channels = out
    wide = 4 * channels
    return nn.Sequential(*layers, Conv1x1(channels, wide), *norm(wide, last), *head(wide))


def mobilenet_v2(width: float) -> nn.Module:
    """A convolution, five inverted residuals, and a 1x1 convolution."""
    return _inverted(width, "relu6", "relu6", gated=False)


def mobilenet_v3(width: float) -> nn.Module:
    """The same with gates and hard swish."""
    return _inverted(width, "hardswish", "hardswish", gated=True)


class Residual(nn.Module):
    """The basic block of ResNet."""

    def __init__(self, ic: int, oc: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(ic, oc, 3, stride, 1, bias=False),
            *norm(oc),
            nn.Conv2d(oc, oc, 3, 1, 1, bias=False),
            *norm(oc, "none"),
        )
        same = stride == 1 and ic == oc
        self.other = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(ic, oc, 1, stride, bias=False), *norm(oc, "none"))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.other(x))


def resnet_20(width: float) -> nn.Module:
    """That of CIFAR, its first convolution with a stride."""
    channels = rounded(16 * width)
    layers = [nn.Conv2d(1, channels, 3, 2, 1, bias=False), *norm(channels)]
    for stage in range(3):
        for block in range(3):
            out = rounded(16 * width * 2**stage)
            layers.append(Residual(channels, out, 2 if stage and not block else 1))
            channels = out
    return nn.Sequential(*layers, *head(channels))


def mlp(width: float) -> nn.Module:
    """Three layers on plain pictures."""
    inner = rounded(512 * width)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, inner, bias=False),
        nn.BatchNorm1d(inner),
        nn.ReLU(),
        nn.Linear(inner, inner, bias=False),
        nn.BatchNorm1d(inner),
        nn.ReLU(),
        nn.Linear(inner, CLASSES),
    )


NETWORKS = {
    "mobilenet-v1": mobilenet_v1,
    "mobilenet-v2": mobilenet_v2,
    "mobilenet-v3": mobilenet_v3,
    "resnet-20": resnet_20,
    "mlp": mlp,
}


def made(network: str, width: float, seed: int) -> nn.Module:
    """A network with random weights."""
    torch.manual_seed(seed)
    return NETWORKS[network](width)


def multiply_adds(model: nn.Module, example: torch.Tensor) -> int:
    """Multiply-adds with weights that are not zero, of convolutions and linear layers, for one picture."""
    total = 0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        places = out[0, 0].numel() if out.dim() == 4 else 1
        total += int((layer.weight != 0).sum()) * places

    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    was = model.training
    with torch.no_grad():
        model.eval()(example)
    model.train(was)
    for hook in hooks:
        hook.remove()
    return total
