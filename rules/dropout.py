"""Dropout: entries kept or dropped by a random mask, those kept divided by the share of them.

It needs no law of its own.  The mask is data, one draw per entry, and 0 or 1 by the sign of a normal number: it has a mean
and what is dropped is exactly zero, forward and backward alike.  One mask serves gradients and the pass that shows their
effect; another draw would change no size, for its product with the first has a mean, too.
"""

from __future__ import annotations

import sympy as sp

from scalecalc.errors import InputError
from scalecalc.program import Tensor

SOURCE = "Srivastava et al. 2014, JMLR 15, p. 1929"


def dropout(x: Tensor, rate: float = 0.5) -> Tensor:
    """x · mask / (1 − rate), each entry of the mask 0 with probability ``rate`` in [0, 1).

    Raises:
        InputError: another rate.
    """
    if not 0 <= rate < 1:
        raise InputError(f"dropout at rate {rate:g}; it is the probability that an entry is dropped: from 0 to below 1.")
    if rate == 0:
        return x
    p, share = x.program, sp.nsimplify(rate, rational=True)
    noise = p.input(f"mask {len(p.ops)}", " ".join(x.axes))
    threshold = sp.sqrt(2) * sp.erfinv(2 * share - 1)
    if threshold != 0:
        noise = noise + p.index(f"threshold {len(p.ops)}", "", -threshold)
    mask = p.record("relu", (noise,), noise.axes, order=1)
    return x * (mask * p.index(f"kept {len(p.ops)}", "", 1 / (1 - share)))
