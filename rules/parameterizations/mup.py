"""Maximal update parameterization, in the three gauges of Tensor Programs V."""

from fractions import Fraction

from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import parameterization
from scalecalc.rules.parameterizations._rates import rate
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

ONE, HALF = Scale.one(), Fraction(1, 2)


@parameterization("mup", "Yang et al. 2022, arXiv 2203.03466 (Tensor Programs V), table 3")
def mup(weight: Weight, optimizer: str) -> WeightScaling:
    """Maximal update: every weight moves its output by Θ(1); written for weights between layers that grow alike."""
    fan_in, fan_out = weight.fan_in, weight.fan_out
    if not fan_in.dims:
        init, sgd, adam = ONE, fan_out, ONE
    elif not fan_out.dims:
        init, sgd, adam = fan_in**-1, fan_in**-1, fan_in**-1
    else:
        init, sgd, adam = fan_in**-HALF, ONE, fan_in**-1
    return scaling(init, sgd if optimizer == "sgd" else rate(weight, optimizer, adam, init) or adam)


@parameterization("mup_table8", "Yang et al. 2022, arXiv 2203.03466 (Tensor Programs V), table 8")
def mup_table8(weight: Weight, optimizer: str) -> WeightScaling:
    """Maximal update with the readout of unit variance behind a multiplier 1/fan-in, as the mup package has it."""
    fan_in, fan_out = weight.fan_in, weight.fan_out
    return _behind(fan_in**-1 if fan_in.dims and not fan_out.dims else ONE, weight, optimizer)


@parameterization("mup_table9", "Yang et al. 2022, arXiv 2203.03466 (Tensor Programs V), table 9")
def mup_table9(weight: Weight, optimizer: str) -> WeightScaling:
    """Maximal update with one SGD rate for all weights: multipliers at the input and the output."""
    fan_in, fan_out = weight.fan_in, weight.fan_out
    hidden = fan_in.dims and fan_out.dims
    return _behind(ONE if hidden else fan_in**-HALF if fan_in.dims else fan_out**HALF, weight, optimizer)


def _behind(multiplier: Scale, weight: Weight, optimizer: str) -> WeightScaling:
    """Table 3 with a multiplier moved out of the weight: m·w and its steps stay what they are."""
    one = mup(weight, optimizer)
    power = {"sgd": 2, "adafactor": 0}.get(optimizer, 1)  # of the multiplier in a step of m·w
    return scaling(one.init / multiplier, one.lr / multiplier**power, multiplier)
