"""Maximal update parameterization for selective state space layers."""

from fractions import Fraction

from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import parameterization
from scalecalc.rules.parameterizations.mup import mup
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

ONE, HALF = Scale.one(), Fraction(1, 2)


@parameterization(
    "mup_ssm",
    "On feature learning in structured state space models, NeurIPS 2024: one zero-order-hold S6 layer",
    keeps=("h", "y"),
)
def mup_ssm(weight: Weight, optimizer: str) -> WeightScaling:
    """Selection weights scaled for the structured transition (rates for the first steps); mup for all others."""
    states, channels = weight.fan_out, weight.fan_in
    if weight.role == "selection_B":
        rate = states * channels**-HALF if optimizer == "sgd" else states**HALF / channels
        return scaling((states / channels) ** HALF, rate)
    if weight.role == "selection_C":
        rate = ONE / (states * channels**HALF) if optimizer == "sgd" else states**-HALF / channels
        return scaling((states * channels) ** -HALF, rate)
    return mup(weight, optimizer)
