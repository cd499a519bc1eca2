"""One finished training run: what was run, how it ended, and its loss.

A sweep trains one model at a grid of widths x rates x seeds x parameterizations. Each such run is a job, and each job that
has ended is one `Job`: one row of the database, and all that the statistics and the plots are made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# done: trained to the last step. diverged: the loss stopped being finite, or rose past the stated bound. dominated: stopped
# early because another rate was already better by the stated rule. failed: an error, whose text is in `why`.
Status = Literal["done", "diverged", "dominated", "failed"]


@dataclass(frozen=True)
class Job:
    """One training run that has ended.

    key: the hash of the job's whole config. sweep: the hash of what all jobs of a sweep share (model, data, optimizer,
    steps, batch, loss, ...; neither width, rate, seed nor parameterization). dims: the widths, as {"N_u": 256, "N_x": 16}.
    group: "" where one rate moves every weight; else the group of weights whose rate was swept while all others kept their
    tuned one. log2_rate: the base-2 logarithm of the base learning rate (of the group's, where there is one). loss: the
    final loss, None where there is none. curve: (step, loss) pairs, thinned. seconds: wall time. why: the error's text for
    a failed job, the stated rule for one that was stopped early. versions: of the packages that ran it.
    """

    key: str
    sweep: str
    parameterization: str
    dims: dict[str, int]
    group: str
    log2_rate: float
    seed: int
    status: Status
    loss: float | None
    curve: tuple[tuple[int, float], ...] = ()
    seconds: float = 0.0
    why: str = ""
    versions: dict[str, Any] = field(default_factory=dict[str, Any])
