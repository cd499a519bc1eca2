"""How slowly a size comes near its limit behind a function that saturates, as its argument grows.

tanh(z) with z of size s, some power of the widths, is ±1 but for the entries with |z| below one, a share 1/s of them.  So its
square and that of all that is made of it is that of its limit times 1 − c/s: a correction that falls like 1/N only where s
does, and is far from gone at affordable widths where s is the root of a depth: in a stack of tanh blocks whose branches are
not multiplied y is 1 − .88 L^(−1/2), by a slope of .10 between L = 4 and 64 that looks like an exponent.  A fit that is to
refute has to allow for it, beside the 1/N that it allows for anyhow (:mod:`scalecalc.measure.assess`): sums of such sizes
over the layers have both, |h_l|² = l − c l^(1/2) + ….

No term of the table has that correction: it is no power of an update or of a weight, and its sign is negative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scalecalc import backward
from scalecalc.derive import Derivation
from scalecalc.scale import Scale


def saturating(found: Derivation) -> Mapping[int, tuple[Scale, ...]]:
    """Position of each function that saturates → the sizes of its arguments that grow, if there are any."""
    program, regime = found.model.program, found.algebra.regime
    out: dict[int, tuple[Scale, ...]] = {}
    for i, op in enumerate(program.ops):
        if op.backward or not op.inputs or found.values[i] is None or not backward.rule_of(program, i).saturates(op):
            continue
        values = [found.values[j] for j in op.inputs]
        sizes = [s for v in values if v is not None and v.exact is None for s in regime.leading(v.untagged.sizes())]
        if large := tuple(s for s in sizes if regime.order(s, Scale.one()) == 1):
            out[i] = large
    return out


def slowest(sizes: Iterable[Scale], dims: Sequence[str]) -> dict[str, float]:
    """Per dim the least power of 1/N, if it is below one, by which a share 1/s falls for arguments of these sizes s."""
    out: dict[str, float] = {}
    for size in sizes:
        for dim in dims:
            if 0 < (power := float(size.power(dim))) < out.get(dim, 1.0):
                out[dim] = power
    return out


__all__ = ["saturating", "slowest"]
