"""Steps at which what turns along the states stands still (hard case W7).

exp(kΔA_n) with Im A_n = πn turns with the index, and its sum over N states cancels up to its ends; unless kΔ is an even
integer, when it is N large.  The k-th power is there from lag k on, or from lag k − 1 with an input factor that turns.  The
derivation knows of it, where the step is exact and the angle a rational part of a turn; but a step beside it has another
exponent, so a table says when its own is such a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalecalc.profile import dim_of

if TYPE_CHECKING:
    from scalecalc.program import Program


def resonances(program: Program) -> list[str]:
    """A sentence per discretized transition that stands still at a power of its decay that the program reaches."""
    from scalecalc.asymptotics import U, V
    from scalecalc.indexed import Indexed, period
    from scalecalc.interpreter import harmonics
    from scalecalc.rule import registry
    from scalecalc.rules.discretization import A, Delta, Discretization

    out: list[str] = []
    for op in program.ops[: program.forward_length or None]:
        scheme = registry("rule").get(op.rule)
        if not isinstance(scheme, Discretization) or op.params["part"] != "A" or op.params["order"] != (0, 0):
            continue
        step, transition = (program.ops[i].params.get("expression") for i in op.inputs)
        axes = program.growing(program.ops[op.inputs[1]].axes)
        if step is None or transition is None or not axes or step.has(U, V):
            continue
        power = period(Indexed(scheme.parts["A"], (Delta, A), (step, transition), axes[-1]))
        if 0 < power <= harmonics(program):
            out.append(
                f"Resonance: at the step Δ = {step} the power {power} of the decay does not turn along {dim_of(axes[-1])}, "
                "so that its sum over the states is as large as that of its modulus. A step beside it has a smaller one."
            )
    return list(dict.fromkeys(out))


__all__ = ["resonances"]
