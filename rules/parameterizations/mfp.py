"""Mean-field parameterization."""

from fractions import Fraction

from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import parameterization
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

ONE, HALF = Scale.one(), Fraction(1, 2)


@parameterization("mfp", "Mei, Montanari & Nguyen 2018; Everett et al. 2024, arXiv 2407.05872, table 1")
def mfp(weight: Weight, optimizer: str) -> WeightScaling:
    """Mean-field: unit variance behind a multiplier, 1/fan-in at the readout and fan-in^(-1/2) elsewhere."""
    fan_in, fan_out = weight.fan_in, weight.fan_out
    if not fan_in.dims:
        return scaling(ONE, fan_out if optimizer == "sgd" else ONE)
    if not fan_out.dims:
        return scaling(ONE, fan_in if optimizer == "sgd" else ONE, fan_in**-1)
    return scaling(ONE, fan_in if optimizer == "sgd" else fan_in**-HALF, fan_in**-HALF)
