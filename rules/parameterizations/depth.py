"""Parameterizations of residual networks whose depth L grows."""

from dataclasses import replace
from fractions import Fraction

from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import parameterization
from scalecalc.rules.parameterizations.mup import mup
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

ONE, HALF = Scale.one(), Fraction(1, 2)


@parameterization("depth_mup", "Yang et al. 2023, arXiv 2310.02244 (Tensor Programs VI), table 1; width as mup")
def depth_mup(weight: Weight, optimizer: str) -> WeightScaling:
    """Depth-mup: branches times L^(-1/2), the largest that leave the skip path of order one; rates to match."""
    return _blocks(weight, optimizer, weight.copies**-HALF)


@parameterization("completep", "Dey et al. 2025, arXiv 2505.01618 (CompleteP), table 1 with α = 1; width as mup")
def completep(weight: Weight, optimizer: str) -> WeightScaling:
    """CompleteP: branches times 1/L, so that each block's own update is of order one within the block.

    Under Adam its decay and ε, too.  λ grows like the fan-in, as rates fall with it, so that η·λ scales with nothing.  ε goes
    like the smallest gradients that it is compared with: 1/(N L) for all that is in a block, matrices, gains and biases
    alike, since the branch's multiplier is in every one of them, 1/N for the embedding, and for the readout 1 here, where
    its multiplier 1/N is in its init and rate (the paper's λ = 1 and ε = 1/N of it are the same in its gauge).

    Solved for, this is what comes out, but for ε of attention's queries and keys: their first gradients are N^(1/2) smaller
    than those of all else in a block, as long as values are not aligned with what comes back, so that with ε = 1/(N L) they
    start as lazy as under SGD.
    """
    found = _blocks(weight, optimizer, weight.copies**-1)
    if optimizer != "adam":
        return found
    return replace(found, weight_decay=weight.fan_in, epsilon=(weight.fan_out * weight.copies) ** -1)


def _blocks(weight: Weight, optimizer: str, branch: Scale) -> WeightScaling:
    """The multiplier stands at the last weight of a branch; updates of L blocks add up to order one.

    One block's update moves the skip path by the multiplier times the rate, under SGD by its square, since the gradient has
    it, too.
    """
    one = mup(weight, optimizer)
    together = weight.copies * branch ** (2 if optimizer == "sgd" else 1)
    return scaling(one.init, one.lr / together, branch if weight.role == "branch" else ONE)
