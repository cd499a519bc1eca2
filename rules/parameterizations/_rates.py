"""Rates of the optimizers whose updates are neither gradients nor of size one, from what they are published to match.

Not a rule file: its name starts with an underscore.
"""

from fractions import Fraction

from scalecalc.program import Weight
from scalecalc.scale import Scale

ONE, HALF = Scale.one(), Fraction(1, 2)


def rate(weight: Weight, family: str, adam: Scale, init: Scale) -> Scale | None:
    """The rate for a family beyond SGD and Adam; None for these.

    Adafactor multiplies Adam's update by the weight's size (Everett et al. 2024, arXiv 2407.05872).  An update of spectral
    norm one is to have (fan-out/fan-in)^(1/2) (Yang, Simon & Bernstein 2023, arXiv 2310.17813), with what the shape factor of
    a Muon has of it already; where neither of two dims is the larger the input is taken to be the wider side.
    """
    if family == "adafactor":
        return adam / init
    if len(weight.axes) < 2:
        return None
    ratio = weight.fan_out / weight.fan_in
    wide = ratio is not ONE and weight.regime.order(ratio, ONE) != 1
    norm = ratio**HALF
    largest = weight.fan_in if wide else weight.fan_out
    rates = {"shampoo": norm, "muon": norm if wide else ONE, "muon_rms": norm / largest**HALF, "muon_spectral": ONE}
    return rates.get(family)
