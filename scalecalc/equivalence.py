"""Are two parameterizations the same: do they differ by gauge alone?  And which registered one is a solution?

A shift of one weight's multiplier, init and rate (:mod:`scalecalc.gauge`) leaves everything alone; one over several weights
(:mod:`scalecalc.symmetry`) leaves the output alone.  Two parameterizations are *equivalent* if such shifts take one to the
other.  It is decided exactly: the exponents of their ratio lie in the span of the shifts, or not.  The shifts over several
weights are taken from the sizes of the output, derived at each of the two: equivalent ones give it the same size initially
and by every update.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from math import comb
from typing import Any

from scalecalc.chain import before
from scalecalc.claims import claims, derive_at, formal, output_of, unknown
from scalecalc.gauge import QUANTITIES, known_gradients, own_shifts, plain, values_of
from scalecalc.model import Model, default_parameterization, resolve
from scalecalc.parameterization import Parameterization, assign
from scalecalc.rule import registry
from scalecalc.scale import Regime, Scale
from scalecalc.solution import Equivalence, Match
from scalecalc.symmetry import Shift, Span, combination, shifts

ONE = Scale.one()
MOST_TRIED = 100  # sets of quantities that may differ; beyond that, those that do are listed as they are


def difference(
    first: Mapping[str, Scale],
    second: Mapping[str, Scale],
    weights: Sequence[str],
    own: Mapping[str, Shift],
    group: Sequence[Shift],
    regime: Regime,
) -> Equivalence:
    """What takes one set of values to another: shifts, and what is left beside them in as few weights as can be."""
    a, b = plain(first, own), plain(second, own)
    names = [unknown(q, w) for w in weights for q in QUANTITIES if unknown(q, w) in a and unknown(q, w) in b]
    ratios = {u: b[u] / a[u] for u in names if regime.order(b[u], a[u]) != 0}
    mine = {w: _ratio(first, second, unknown("multiplier", w)) for w in own}
    thetas = {w: theta for w, theta in mine.items() if theta is not ONE}
    if not ratios:
        return Equivalence(thetas)
    if not group:  # no difference is explained by anything
        return Equivalence(thetas, (), _unlike(a, b, list(ratios)))
    # A shift over several weights may explain a difference in part: look for the fewest quantities that none explains.
    parts = _components(ratios, regime)
    known = frozenset(names)
    span = Span(({u: e for u, e in shift.powers if u in known} for shift in group), names)
    rests = [span.rest(exponents) for _, exponents in parts]
    units = {u: span.rest({u: Fraction(1)}) for u in ratios}
    for count in range(len(ratios)):
        if count and comb(len(ratios), count) * len(group) > MOST_TRIED * 3:
            break
        for left in combinations(ratios, count):
            apart = [units[u] for u in left]
            if all(not rest or combination(apart, rest) is not None for rest in rests):
                found = _thetas(parts, group, left, names)
                return Equivalence(thetas, found, _unlike(_moved(a, found), b, left))
    return Equivalence(thetas, (), _unlike(a, b, list(ratios)))


def _ratio(first: Mapping[str, Scale], second: Mapping[str, Scale], name: str) -> Scale:
    return second.get(name, ONE) / first.get(name, ONE)


def _moved(values: Mapping[str, Scale], found: Sequence[tuple[Shift, Scale]]) -> dict[str, Scale]:
    out = dict(values)
    for shift, theta in found:
        out = shift.moved(out, theta)
    return out


def _unlike(
    a: Mapping[str, Scale], b: Mapping[str, Scale], left: Iterable[str]
) -> dict[str, dict[str, tuple[Scale, Scale]]]:
    out: dict[str, dict[str, tuple[Scale, Scale]]] = {}
    for u in left:
        quantity, weight = u.split(maxsplit=1)
        out.setdefault(weight, {})[quantity] = a[u], b[u]
    return out


def _thetas(
    parts: Sequence[tuple[Scale, Mapping[str, Fraction]]], group: Sequence[Shift], left: Sequence[str], names: Sequence[str]
) -> tuple[tuple[Shift, Scale], ...]:
    """The θ of every generator that together make these ratios, whatever they do to what is left out."""
    vectors = [{u: e for u, e in shift.powers if u in names and u not in left} for shift in group]
    thetas = [ONE] * len(group)
    for unit, exponents in parts:
        found = combination(vectors, {u: e for u, e in exponents.items() if e and u not in left})
        assert found is not None, "looked for where it is spanned"
        thetas = [theta * unit**y for theta, y in zip(thetas, found, strict=True)]
    return tuple((shift, theta) for shift, theta in zip(group, thetas, strict=True) if theta is not ONE)


def _components(ratios: Mapping[str, Scale], regime: Regime) -> list[tuple[Scale, dict[str, Fraction]]]:
    """Ratios by what they are powers of: every dim and its logarithm; on a path of its parameter alone."""
    if regime.kind == "path":
        rates = dict(regime.rates)
        dims = sorted(set[str]().union(*(r.dims for r in ratios.values())), key=lambda d: (rates.get(d, 1) != 1, d))
        base = next(iter(dims), "N")
        units = [Scale.of(base, 1 / rates.get(base, Fraction(1))), Scale.log(base)]
        return [(unit, {u: regime.key(r)[k] for u, r in ratios.items()}) for k, unit in enumerate(units)]
    dims = sorted(set[str]().union(*(r.dims for r in ratios.values())))
    powers = [(Scale.of(d), {u: r.power(d) for u, r in ratios.items()}) for d in dims]
    return powers + [(Scale.log(d), {u: r.log_power(d) for u, r in ratios.items()}) for d in dims]


def equivalent(
    model: str,
    first: str | Parameterization,
    second: str | Parameterization,
    *,
    optimizer: str | None = None,
    regime: str = "free",
    steps: int = 2,
    **options: Any,
) -> Equivalence:
    """Do two parameterizations of a model differ by gauge alone?

    >>> bool(equivalent("mlp", "mup", "mup_table8", optimizer="adam")), bool(equivalent("mlp", "mup", "sp", optimizer="adam"))
    (True, False)

    Args:
        first, second: registered names, TOML or JSON files, or parameterizations.
        regime: along which path scales are told apart; ``free``: as monomials.
        steps: 1 if only the first step has to be the same.

    Raises:
        UnknownName, InputError: see :func:`scalecalc.derive`.
    """
    pair = [
        resolve(model, parameterization=p, optimizer=optimizer, options=options, regime=regime) for p in (first, second)
    ]
    how = Regime.parse(regime, pair[0].program.dims)
    own = own_shifts(pair[0], known_gradients(pair[0], how), how)
    a, b = (values_of(m.scalings, m.program) for m in pair)
    weights = list(pair[0].program.weights)
    alone = difference(a, b, weights, own, (), how)
    if alone:
        return alone
    groups = [output_shifts(pair[0], plain(v, own), how, steps) for v in (a, b)]
    found = [difference(a, b, weights, own, group, how) for group in groups]
    return next((one for one in found if not one), found[0])


def output_shifts(model: Model, values: Mapping[str, Scale], regime: Regime, steps: int) -> tuple[Shift, ...]:
    """The shifts over several weights that leave every size of the output alone, near given values (multipliers one)."""
    found = derive_at(formal(model), values, regime, steps)
    return shifts(claims(found), output_of(model.program), model.program.dims, before(model.program))


# ---------------------------------------------------------------------- recognition


def recognised(
    model: Model, values: Mapping[str, Scale], own: Mapping[str, Shift], group: Sequence[Shift], regime: Regime, steps: int
) -> tuple[Match, ...]:
    """The registered parameterizations that these values are, those in the same gauge first.

    If they are none: the one that the model names, as far as it is alike; or one that differs in a single quantity.
    """
    weights = list(model.program.weights)
    tried: dict[str, tuple[Mapping[str, Scale], Equivalence, Regime]] = {}
    for name, entry in registry("parameterization").items():
        try:
            theirs = values_of(assign(entry.make, model.program.weights, model.update, regime), model.program)
        except Exception:  # a rule of a user's own may know one architecture only, and may fail on all others as it likes
            continue
        every = [(difference(values, theirs, weights, own, group, how), how) for how in dict.fromkeys((Regime(), regime))]
        tried[name] = theirs, *next((one for one in every if one[0]), every[-1])
    # Where blocks are repeated a derivation at a parameterization that ties many sizes takes minutes: not where one is found.
    known = bool(model.program.loops) and any(one and not one.shared for _, one, _ in tried.values())
    out: list[Match] = []
    for name, (theirs, found, how) in tried.items():
        if found.shared and not found.differs:  # the shifts have to be those of the other's output, too
            if known:
                continue
            there = output_shifts(model, plain(theirs, own), how, steps)
            found = difference(values, theirs, weights, own, there, how)
        out.append(Match(name, registry("parameterization")[name].source, found, how.text if how.kind != "free" else ""))
    expected = default_parameterization(model.name)
    out.sort(key=lambda m: (m.found.count, bool(m.along), len(m.found.shared), len(m.found.own), m.name != expected, m.name))
    same = tuple(m for m in out if m.found)
    near = [m for m in out if len(m.found.differs) < len(model.program.weights)]
    return same or tuple([m for m in near if m.name == expected] or [m for m in near[:1] if m.found.count == 1])
