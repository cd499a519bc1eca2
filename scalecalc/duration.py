"""A number of steps that grows: what T optimizer steps come to, summed.

``grow=steps`` makes the number of steps a dim.  An update is then the sum over T steps of one rate; to first order each is
taken with the gradient of the initial network, and with noise of its own.
What is alike at all steps adds up to T; what is odd in the noise of each step (``--loss noisy``, :mod:`scalecalc.batch`) to
T^(1/2): the law of every sum, over an axis of steps on which every step's noise has a sign of its own.  Nothing else is put
in: whether a step's signal or its noise leads, and what the optimizer makes of both, is derived.  Under Adam below the noise
scale a step has entries of order one and a signal (batch/noise)^(1/2), so that T steps move a weight by max(T^(1/2),
T (batch/noise)^(1/2)) times the rate; they agree where steps × batch, the samples seen, are as many as the noise scale.

What it cannot know is how gradients change on the way: that a loss is being minimised makes the signal fall, and noise that a
restoring force holds does not spread for ever.  So a rate that is solved for is the largest whose T steps move no feature by
more than order one as long as gradients keep their direction.  Contributions of several updates (``--steps 2``) meet the
noise of different steps, which has no law here, and are refused.

Noise and signal: McCandlish et al. 2018, arXiv 1812.06162.  Weight decay over T steps: Wang & Aitchison 2024, arXiv
2405.13698 (a timescale 1/(rate · decay) that is the length of the run).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scalecalc.errors import InputError, UnsupportedScale
from scalecalc.scale import Scale
from scalecalc.term import Atom, atom

if TYPE_CHECKING:
    from scalecalc.program import Program
    from scalecalc.value import Algebra, Value

STEPS = "steps"
NOISE = "loss noise"  # the input that is drawn anew at every step (rules/loss.py)
ONE = Scale.one()
KEPT = "gradients keep their direction over the steps"


def number(program: Program) -> Scale:
    """How many steps an update is the sum of: one, unless their number grows."""
    return Scale.of(STEPS) if STEPS in program.dims else ONE


def own_noise(program: Program) -> tuple[Atom, ...]:
    """The sign of a step's noise, where there are many steps: independent from step to step."""
    return (atom("noise of a step", [STEPS]),) if STEPS in program.dims else ()


def summed(algebra: Algebra, update: Value, steps: Scale) -> Value:
    """The sum of the updates of all steps."""
    if steps is ONE:
        return update
    out = algebra.sum(replace(update, labels=(*update.labels, STEPS)), STEPS)
    terms = (replace(t, why=algebra.step("sum over the steps", t, assumption=f"{KEPT} at {algebra.at}")) for t in out.terms)
    return replace(update, terms=tuple(terms))


def notes(program: Program) -> tuple[str, ...]:
    """What a reader must know of a table or a solution in which the number of steps grows."""
    if STEPS not in program.dims:
        return ()
    return (
        f"An update is the sum of those of all steps at one rate, taken to first order: what is alike at all of them adds up "
        f"to {STEPS}, noise that is drawn anew at each to {STEPS}^(1/2). It holds as long as {KEPT}; where later steps ask "
        "for smaller rates (without grow=steps, --steps 2), these go down by as much.",
    )


def check_order(program: Program, order: int) -> None:
    """Refuse what updates of several weights do together.

    Raises:
        UnsupportedScale: more steps than one, of which the number grows.
    """
    if order > 1 and STEPS in program.dims:
        raise UnsupportedScale(
            f"{program.name}: the number of steps grows, and what an update gains because other weights have moved meets the "
            "noise of other steps than its own, for which there is no law here. Ask for the first order (--steps 1); or hold "
            "their number (--fix steps=1), and see how --steps 2 changes the rates."
        )


def check_measured(program: Program) -> None:
    """Refuse to measure what is a sum over steps.

    Raises:
        InputError: the number of steps grows.
    """
    if STEPS in program.dims:
        raise InputError(
            f"{program.name}: verify takes one step, and cannot measure how updates grow with their number; leave grow=steps "
            "away, or hold it: --fix steps=1."
        )


__all__ = ["NOISE", "STEPS", "check_measured", "check_order", "notes", "number", "own_noise", "summed"]
