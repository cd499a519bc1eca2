"""What a function makes of leading terms of like size: products of them, of every subset that its parity allows.

φ(x_1 + … + x_k) has, for every subset of the terms, a part that is odd in exactly those (hard case W1): the product of their
patterns.  A term that turns may be taken more than once: sign(cos θ) has all odd harmonics of cos θ (hard case W7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from scalecalc.profile import Profile, Profiles, dim_of
from scalecalc.reads import noted
from scalecalc.scale import ZERO, Scale
from scalecalc.term import Pattern, Term, fluctuation, mask, multiply_patterns, pattern
from scalecalc.value import Algebra

ONE = Scale.one()
MOST_MIXED = 256  # products of eight independent leading terms; beyond it only some are made, and it is said
MOST_FACTORS = 64
Mixed = dict[tuple[Scale, Pattern], int]  # not to be changed once it is made


@dataclass(frozen=True)
class Local:
    """How a part of a function behaves at a given size of argument: φ ~ |x|^degree with a parity.

    ``least``, ``most``: sizes of the subsets of leading terms that it mixes (a polynomial's degree).  ``profiles``: what
    it adds along axes of its own (a discretization's transition index).  ``local``: it is of order one where its argument
    is, and nothing where the argument is large.
    """

    degree: Fraction
    parity: str = "none"
    most: int | None = None
    profiles: Profiles = ()
    least: int = 0
    local: bool = False


def subsets(
    parts: Sequence[Local], size: Scale, profiles: Profiles, leads: Sequence[Term], algebra: Algebra, law: str
) -> list[Term]:
    tag = min((t.tag for t in leads), key=len, default=())
    found: dict[tuple[Scale, object], Term] = {}
    centred = algebra.limits.centred
    for local, (relation, share, profile) in ((part, one) for part in parts for one in _shares(part, size, profiles)):
        own, order = profile + local.profiles, _order(tag, local, algebra)
        if order is None:
            continue
        where = [mask([t.pattern for t in leads], share)] if share is not None else ()
        base = pattern(own, (), leads[0].pattern.same if leads else (), where)
        mixed, left = _mixed(base, leads, algebra)
        step = algebra.step(law, *leads, assumption=left)
        wanted = _counts(local)
        for (relative, one), counts in mixed.items():
            if counts & wanted:
                t = Term(relation * relative, one, order, step)
                found.setdefault((t.size, one), t)
        if centred and leads and local.most != 0 and wanted & 1:  # the even part moves with its argument
            atoms = {a for t in leads for a in t.pattern.odd if centred & set(map(dim_of, a.labels))}
            for a in sorted(map(fluctuation, atoms), key=lambda a: a.serial):
                t = Term(relation, pattern(own, [a], (), where), order, step)
                found.setdefault((t.size, t.pattern), t)
    return list(found.values())


def _order(tag: tuple[str, ...], local: Local, algebra: Algebra) -> tuple[str, ...] | None:
    """The order in updates of a function of nothing but an update: a polynomial's is its degree; None beyond the limits."""
    if not tag or local.most is None or local.degree.denominator > 1:
        return tag
    out: tuple[str, ...] | None = tag
    for _ in range(int(local.degree) - 1):
        out = algebra.limits.join(out, tag) if out is not None else None
    return out


def _shares(local: Local, size: Scale, profiles: Profiles) -> list[tuple[Scale, Scale | None, Profiles]]:
    """Size, share of the entries where it is not nothing (None: of all), and profile of a part of a function.

    A local part is of order one at the share 1/|x| of the entries.  Where |x| has a profile, so has the share: its mean is
    that of entries of order one at the largest share, falling as the share does, its mean square that of entries that fall
    as the root of the share does.
    """
    if not local.local:
        return [(size**local.degree, None, tuple((label, p**local.degree) for label, p in profiles))]
    if any(p.decaying for _, p in profiles):
        return [(ONE, ONE, ())]
    share, most = tuple((label, p**-1) for label, p in profiles), ONE
    for label, p in share:
        first, last = p.ends(dim_of(label))
        most = most * (first if (p.power, -p.log) > (ZERO, ZERO) else last)
    mean = (ONE / most, most / size, share)
    if most is ONE:
        return [mean]
    return [mean, (ONE, ONE / size, tuple((label, p ** Fraction(1, 2)) for label, p in share))]


def _counts(local: Local) -> int:
    """The numbers of leading terms that a part of a function may multiply, as bits."""
    most = MOST_FACTORS if local.most is None else local.most
    wanted = [k for k in range(local.least, most + 1) if local.parity == "none" or (k % 2 == 1) == (local.parity == "odd")]
    return sum(1 << k for k in wanted)


def _mixed(base: Pattern, leads: Sequence[Term], algebra: Algebra) -> tuple[Mixed, str]:
    """The products of all subsets of leading terms, each with the numbers of factors that it is made of, as bits.

    Many subsets have one product, where leads differ in phase alone, say; so lead by lead, not subset by subset.  Returns
    also what is assumed where there are too many: products of the later leads with others are left out then.
    """
    found, first = _mixture(base, tuple(t.pattern for t in leads), algebra.limits.centred, algebra.limits.harmonics)
    if first is None:
        return found, ""
    return found, (
        f"of the {len(leads)} leading terms at {algebra.at} only products of the first {first} matter; the others "
        "count one by one"
    )


@noted
def _mixture(base: Pattern, leads: tuple[Pattern, ...], centred: frozenset[str], harmonics: int) -> tuple[Mixed, int | None]:
    """The same of patterns alone, and of how many leads products were made, if not of all."""
    found: Mixed = {(ONE, base): 1}
    left: int | None = None
    for position, lead in enumerate(leads):
        flat = pattern([(label, p.turn) for label, p in lead.profiles], lead.odd, lead.same)
        if left is None and len(found) >= MOST_MIXED:
            left = position
        for (size, one), counts in [((ONE, base), 1)] if left is not None else list(found.items()):
            for relative, product in multiply_patterns(one, flat, centred):
                key = size * relative, product
                found[key] = found.get(key, 0) | counts << 1
    for lead in leads:
        for label, p in lead.profiles:
            if p.phase:
                _harmonics(found, label, p.turn * p.turn, harmonics)
    return found, left


def _harmonics(found: Mixed, label: str, twice: Profile, most: int) -> None:
    """An odd number of factors that turn is one that turns three times as fast, and so on, up to the phase ``most``.

    Beyond it nothing that is multiplied with the function turns so fast that the product stands still.
    """
    for (size, one), counts in list(found.items()):
        reached = one.profile(label)
        for pairs in range(1, most + 1):
            reached = reached * twice
            if abs(reached.phase) > most:
                break
            own = pattern([*((k, p) for k, p in one.profiles if k != label), (label, reached)], one.odd, one.same, one.masks)
            found[size, own] = found.get((size, own), 0) | counts << 2 * pairs
