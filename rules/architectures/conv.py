"""Convolutional network."""

from __future__ import annotations

from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import groupnorm
from scalecalc.rules.pooling import largest, mean
from scalecalc.rules.reduction import dot, rename
from scalecalc.rules.view import windows

SIDE, TAPS, GROUPS = 4, 3, 2
PLACES = ("row", "column")


@architecture(
    "conv",
    "LeCun et al. 1998, Gradient-based learning applied to document recognition; mup: Yang et al. 2022, arXiv 2203.03466",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [32, 64, 128, 256]},
)
def conv(
    depth: int = 2,
    residual: bool = False,
    depthwise: bool = False,
    norm: str = "none",
    pooling: str = "mean",
    activation: str = "relu",
) -> Program:
    """Convolutional network of N channels on images of fixed size: 3 × 3 convolutions, pooling over places, a readout.

    Its table is the multilayer perceptron's with channels for features: taps and places are of fixed number and change no
    exponent.  What differs from the habit is the fan-in, which counts taps too and gives the same exponent either way.  Watch
    depthwise convolutions, whose kernels are vectors: their fan-in does not grow, so that they start at one and have an
    embedding's rate.

    Options: ``depth``; ``residual`` adds each layer's input; ``depthwise`` puts a depthwise convolution before each dense one
    but the first (MobileNet, arXiv 1704.04861); ``norm`` behind each dense one: ``none``, or ``group`` (2 groups, over
    channels and places: Wu & He 2018, arXiv 1803.08494); ``pooling``: ``mean`` or ``max``; ``activation``.
    """
    if norm not in ("none", "group") or pooling not in ("mean", "max"):
        raise InputError(f"conv has norm=none or group and pooling=mean or max, not norm={norm}, pooling={pooling}.")
    p = Program(
        "conv",
        dims=("N",),
        fixed={"batch": 2, "row": SIDE, "column": SIDE, "r": SIDE, "c": SIDE, "i": TAPS, "j": TAPS, "in": 3, "out": 8},
    )
    h = p.feature("h1", _convolved(p.weight("W_1", "N i j in"), p.input("x", "batch row column in"), "i j in"))
    for layer in range(2, depth + 1):
        a = function(activation)(_normed(h, norm))
        if depthwise:
            a = p.feature(f"d{layer}", _convolved(p.weight(f"K_{layer}", "N i j"), a, "i j"))
        y = _convolved(p.weight(f"W_{layer}", "N i j N'"), rename(a, {"N": "N'"}), "i j N'")
        h = p.feature(f"h{layer}", h + y if residual else y)
    pooled = (largest if pooling == "max" else mean)(function(activation)(_normed(h, norm)), PLACES)
    f = p.feature("f", matmul(p.weight("W_out", "out N"), pooled))
    p.end(f)
    return p


def _normed(h: Tensor, norm: str) -> Tensor:
    return groupnorm(h, "N", GROUPS, PLACES) if norm == "group" else h


def _convolved(kernel: Tensor, x: Tensor, over: str) -> Tensor:
    """Σ over taps (and channels) of kernel and neighbourhoods, zero outside the image."""
    wide = windows(windows(x, "row", "r", "i", TAPS // 2), "column", "c", "j", TAPS // 2)
    return rename(dot(kernel, wide, over), {"r": "row", "c": "column"})
