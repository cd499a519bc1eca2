"""Spectral parameterization."""

from fractions import Fraction

from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import parameterization
from scalecalc.rules.parameterizations._rates import rate
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

ONE, HALF = Scale.one(), Fraction(1, 2)


@parameterization("spectral", "Yang, Simon & Bernstein 2023, arXiv 2310.17813, parametrization 1")
def spectral(weight: Weight, optimizer: str) -> WeightScaling:
    """Spectral: the norms of W and of its update of order (fan-out/fan-in)^(1/2), read off the shape alone."""
    ratio = weight.fan_out / weight.fan_in
    # min(1, ratio^(1/2)) in the regime asked for; in the free one, where neither of two dims is the larger, the input is
    # taken to be the wider side, as the condition is used for SSMs
    shrink = ONE if weight.regime.order(ratio, ONE) == 1 else ratio**HALF
    init, adam = weight.fan_in**-HALF * shrink, weight.fan_in**-1
    return scaling(init, ratio if optimizer == "sgd" else rate(weight, optimizer, adam, init) or adam)
