"""Standard parameterization."""

from fractions import Fraction

from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import parameterization
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

ONE, HALF = Scale.one(), Fraction(1, 2)


@parameterization("sp", "LeCun et al. 1998, Efficient BackProp; He et al. 2015, arXiv 1502.01852")
def sp(weight: Weight, optimizer: str) -> WeightScaling:
    """Standard: variance 1/fan-in, one rate for all weights at all widths."""
    return scaling(weight.fan_in**-HALF, ONE)
