"""How fast a linear state space model learns, as a function of the data, the start and the number of states N.

After "How state space models learn: a frequency-domain view of their dynamics" (arXiv 2407.07279).  A diagonal SSM
x_t = A x_(t−1) + B u_t, y_t = C x_t under a squared loss is, frequency by frequency, a two-layer linear network with N
hidden units; what the data say of it are σ and η (:mod:`scalecalc.dynamics.spectra`).

>>> from scalecalc import dynamics
>>> table = dynamics.derive(["tied_balanced", "tied_frozen"])
>>> for row in table:
...     print(row.label, "|", row.formula(), "|", row.klass or "-")
tied_balanced, time constant | N^(-1) sigma^(-1) | O(τ/(Nσ))
tied_frozen, time constant | N^(-2) eta^(-1) | O(τ/(N²η))
tied_balanced, half-rise | N^(-1) sigma^(-1) log G | -
tied_frozen, half-rise | N^(-2) eta^(-1) | -

:func:`derive` needs no torch; :func:`measure` trains by torch's autograd.  Time is the number of steps times the rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scalecalc.errors import InputError
from scalecalc.table import Row, Table

if TYPE_CHECKING:
    from pathlib import Path

    from scalecalc.dynamics.spectra import Sequences, Spectra
    from scalecalc.dynamics.study import Study

MODEL = "linear SSM"
STATES = (4, 8, 16, 32, 64, 128, 256)


def derive(settings: Sequence[str] | None = None) -> Table:
    """Time constants and half-rises as Θ in N, σ, η and G, a pair of rows per setting; derived by sympy, without torch.

    The class of a time constant says which of the two published ones it is, if any.

    Args:
        settings: names of :data:`scalecalc.dynamics.settings.SETTINGS`; all of them where none are given.

    Raises:
        UnknownName: no such setting.
    """
    from scalecalc.dynamics.settings import DIMS, SETTINGS, derived_rows, setting

    began = time.perf_counter()
    chosen = [setting(name) for name in (SETTINGS if settings is None else settings)]
    pairs = [derived_rows(one) for one in chosen]
    rows = tuple(pair[k] for k in (0, 1) for pair in pairs)
    dims = tuple(dim for dim in DIMS if any(dim in scale.dims for row in rows for scale in row.terms))
    return Table(
        MODEL,
        rows,
        dims,
        command="dynamics",
        options={"settings": [one.name for one in chosen]},
        notes=_legend(rows),
        parameterization_name="frozen A",
        optimizer="gradient descent",
        seconds=time.perf_counter() - began,
    )


def measure(
    data: Sequences | Spectra | str | Path | None = None,
    *,
    settings: Sequence[str] | None = None,
    states: Sequence[int] = STATES,
    pole: float | None = None,
    seeds: int = 4,
    seed: int = 0,
    tolerance: float = 0.05,
    step: float | None = None,
    color: float = 0.0,
    noise: float = 0.0,
    curves: bool = False,
    beyond: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Study:
    """Derive, train by gradient descent at every N, and judge; with the learning curves, predicted and measured.

    Args:
        data: sequences (see :func:`scalecalc.dynamics.data.sequences`), spectra, or a file; a teacher's where none are given.
        states: N's to train at, two at least, rising.
        pole: of all states, within (−1, 1); that of the mode which explains most of the outputs where it is not given.
        seeds: runs per N.
        tolerance: how far from the derived exponent still agrees.
        step: of gradient descent, in units of the inverse of the derived rate at the end; 0.04 unless given.
        color, noise: of the teacher's inputs and outputs, see :func:`scalecalc.dynamics.synthetic.teacher`.
        curves: also resonant modes learnt in stages, for the plots.
        beyond: also finite steps, finite length and learned poles, a row each.
        progress: is called with what is going on.

    Returns:
        the table with verdicts, the statistics, and per setting the curves.

    Raises:
        InputError: a file or an argument is not as it must be.
        MeasureError: the outputs do not follow the mode, or gradient descent does not converge.
    """
    from scalecalc.dynamics.study import study

    checked = sorted(set(states))
    if len(checked) < 2 or checked[0] < 1:
        raise InputError("at least two different numbers of states are needed, each 1 or more: --states N=4:256.")
    if pole is not None and not abs(pole) < 1:
        raise InputError(f"the pole {pole:g} does not lie within (−1, 1), so that the recursion would not be stable.")
    if step is not None and not 0 < step <= 1:
        raise InputError(
            f"the step {step:g} must be above 0 and at most 1, in units of the inverse of the rate at the end."
        )
    if seeds < 2:
        raise InputError("two seeds at least are needed, so that there is a scatter to judge by.")
    began = time.perf_counter()
    derived = derive(settings)
    found = study(
        data,
        derived,
        checked,
        pole=pole,
        seeds=seeds,
        seed=seed,
        tolerance=tolerance,
        step=step,
        color=color,
        noise=noise,
        curves=curves,
        beyond=beyond,
        progress=progress or (lambda _: None),
    )
    return replace(found, table=replace(found.table, seconds=time.perf_counter() - began))


def _legend(rows: Sequence[Row]) -> tuple[str, ...]:
    """What the letters mean."""
    said = [
        "Time is steps × rate, so that τ = 1. The class says which of the two time constants of arXiv 2407.07279 "
        "it is. "
        "tied: one b and one c for all N states; frozen: c = 1; balanced: b = c."
    ]
    if any(scale.log_power("G") or scale.power("G") for row in rows for scale in row.terms):
        said.append(
            "G is the final over the initial total gain, σ/(η W_0); where each state's initial gain w is fixed, "
            "W_0 = N w, "
            "and G falls like 1/N."
        )
    return tuple(said)


def __getattr__(name: str) -> Any:
    if name in ("read", "sequences", "covariances", "statistics"):
        from scalecalc.dynamics import data

        return getattr(data, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
