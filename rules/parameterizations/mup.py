"""Maximal update parameterization."""

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
