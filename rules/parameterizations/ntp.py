"""Neural tangent parameterization."""

from fractions import Fraction

from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import parameterization
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

ONE, HALF = Scale.one(), Fraction(1, 2)


@parameterization("ntp", "Jacot et al. 2018, arXiv 1806.07572; Adam rates: Everett et al. 2024, arXiv 2407.05872")
def ntp(weight: Weight, optimizer: str) -> WeightScaling:
    """Neural tangent: unit variance behind a multiplier fan-in^(-1/2); features stay lazy under SGD."""
    return scaling(ONE, ONE if optimizer == "sgd" else weight.fan_in**-HALF, weight.fan_in**-HALF)
