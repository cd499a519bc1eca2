"""Maximal update parameterization for selective state space layers."""

from fractions import Fraction

from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import parameterization
from scalecalc.rules.parameterizations._rates import rate
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
        init, sgd, adam = (states / channels) ** HALF, states * channels**-HALF, states**HALF / channels
    elif weight.role == "selection_C":
        init, sgd, adam = (states * channels) ** -HALF, ONE / (states * channels**HALF), states**-HALF / channels
    else:
        return mup(weight, optimizer)
    return scaling(init, sgd if optimizer == "sgd" else rate(weight, optimizer, adam, init) or adam)
