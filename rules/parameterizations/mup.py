"""Maximal update parameterization, in the three gauges of Tensor Programs V."""

from fractions import Fraction

from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import parameterization
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

ONE, HALF = Scale.one(), Fraction(1, 2)


@parameterization("mup", "Yang et al. 2022, arXiv 2203.03466 (Tensor Programs V), table 3")
def mup(weight: Weight, optimizer: str) -> WeightScaling:
    """Maximal update: every weight moves its output by Θ(1); written for weights between layers that grow alike."""
    fan_in, fan_out = weight.fan_in, weight.fan_out
    if not fan_in.dims:
        return scaling(ONE, fan_out if optimizer == "sgd" else ONE)
    if not fan_out.dims:
        return scaling(fan_in**-1, fan_in**-1)
    return scaling(fan_in**-HALF, ONE if optimizer == "sgd" else fan_in**-1)


@parameterization("mup_table8", "Yang et al. 2022, arXiv 2203.03466 (Tensor Programs V), table 8")
def mup_table8(weight: Weight, optimizer: str) -> WeightScaling:
    """Maximal update with the readout of unit variance behind a multiplier 1/fan-in, as the mup package has it."""
    fan_in, fan_out = weight.fan_in, weight.fan_out
    if fan_in.dims and not fan_out.dims:
        return scaling(ONE, fan_in if optimizer == "sgd" else ONE, fan_in**-1)
    return mup(weight, optimizer)


@parameterization("mup_table9", "Yang et al. 2022, arXiv 2203.03466 (Tensor Programs V), table 9")
def mup_table9(weight: Weight, optimizer: str) -> WeightScaling:
    """Maximal update with one SGD rate for all weights, and variance 1/fan-in in all but the input weights."""
    fan_in, fan_out = weight.fan_in, weight.fan_out
    sgd = optimizer == "sgd"
    if not fan_in.dims:
        return scaling(fan_out**-HALF, ONE if sgd else fan_out**-HALF, fan_out**HALF)
    if not fan_out.dims:
        return scaling(fan_in**-HALF, ONE if sgd else fan_in**-HALF, fan_in**-HALF)
    return scaling(fan_in**-HALF, ONE if sgd else fan_in**-1)
