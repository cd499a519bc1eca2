"""A solved parameterization in every format: the exponents, what each weight does, and what binds it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from scalecalc._version import __version__
from scalecalc.errors import Contradiction
from scalecalc.pieces import Piece, Sector, formula
from scalecalc.report.formats import choose
from scalecalc.report.formats import to_csv as csv_of
from scalecalc.report.layout import PLAIN, QUANTITIES, Section, Writer
from scalecalc.scale import Scale
from scalecalc.solution import NAMES, Bound, Match, Solution

if TYPE_CHECKING:
    from scalecalc.symmetry import Shift

ONE = Scale.one()
COLUMNS = (
    "weight", "role", "quantity", "step", "rho_low", "rho_high", "dim", "power", "log_power", "does", "bound_by",
    "optimizer", "regime", "model", "along",
)  # fmt: skip
MOST_SHIFTS = 4  # that the terminal lists; JSON has all of them


def render(found: Solution, format: str, *, width: int = 80, color: bool = False) -> str:
    """The solution in one of :data:`scalecalc.report.formats.FORMATS`.

    Raises:
        UnknownName: no such format.
    """
    return choose(format, {
        "table": lambda: to_terminal(found, width=width, color=color),
        "csv": lambda: to_csv(found),
        "markdown": lambda: to_markdown(found),
        "json": lambda: to_json(found),
        "latex": lambda: to_latex(found),
    })  # fmt: skip


def heading(found: Solution) -> str:
    """What was solved, for which optimizer and along which path."""
    return (
        f"{found.model}: parameterization {found.name}, optimizer {found.optimizer}, regime {found.regime.text}, "
        f"growing {', '.join(found.dims) or 'nothing'}"
    )


def shown(found: Solution) -> list[str]:
    """The quantities that the solution has something to say of."""
    out = ["init"]
    if any(s.multiplier != ONE for s in found.scalings.values()):
        out.append("multiplier")
    out.append("lr")
    return out + [q for q in ("weight_decay", "epsilon") if any(getattr(s, q) is not None for s in found.scalings.values())]


def sections(found: Solution, *, write: Writer = PLAIN) -> list[Section]:
    """The exponents with what each weight does; and what binds them."""
    quantities = shown(found)
    first = found.first.scalings if found.first is not None else {}
    differs = any(first[w].lr is not s.lr for w, s in found.scalings.items() if w in first)
    columns = ["weight", "role", *(write.text(QUANTITIES[q]) for q in quantities)]
    if differs:
        columns.append("first-step rate")
    rows: list[tuple[str, ...]] = []
    for name, s in found.scalings.items():
        cells = [write.name(name), write.text(s.role), *(_cell(found, name, q, write) for q in quantities)]
        if differs:
            cells.append(write.size(first[name].lr) if first[name].lr is not s.lr else write.text("same"))
        rows.append((*cells, write.text(found.fates.get(name, ""))))
    out = [Section("Parameterization", (*columns, "does"), tuple(rows), tight=frozenset({"weight"}))]
    bound: list[tuple[str, ...]] = []
    for (weight, quantity), b in sorted(found.bounds.items(), key=lambda item: list(found.scalings).index(item[0][0])):
        because = "\n".join(write.text(row) for row in [*b.rows, *_tied(b)]) or write.text("nothing")
        bound.append((write.name(weight), write.text(QUANTITIES[quantity]), because))
    breaks = frozenset(i for i in range(1, len(bound)) if bound[i][0] != bound[i - 1][0])
    out.append(Section("What binds it", ("weight", "", "cannot grow because of"), tuple(bound), breaks))
    return out


def _tied(bound: Bound) -> list[str]:
    """The rows that would hold it at the same value without the first, in one line; JSON has all of them."""
    more = f" (and {len(bound.ties) - 1} more)" if len(bound.ties) > 1 else ""
    return [f"or {bound.ties[0]}{more}"] if bound.ties else []


def _cell(found: Solution, weight: str, quantity: str, write: Writer) -> str:
    one = found.pieces.get((weight, quantity))
    if one:
        return write.text(formula(one, found.dims))
    scale = getattr(found.scalings[weight], quantity)
    return write.size(scale) if scale is not None else ""


def closing(found: Solution) -> list[str]:
    """A sentence on what learns, then what a reader must know."""
    words = {
        "learning": "learn", "learning further on": "learn further on only", "lazy": "are lazy", "idle": "change nothing"
    }  # fmt: skip
    singular = {
        "learning": "learns", "learning further on": "learns further on only", "lazy": "is lazy", "idle": "changes nothing"
    }  # fmt: skip
    parts: list[str] = []
    for fate in words:
        who = [w for w, f in found.fates.items() if f == fate]
        if who:
            names = who[0] if len(who) == 1 else f"{', '.join(who[:-1])} and {who[-1]}"
            parts.append(f"{names} {(singular if len(who) == 1 else words)[fate]}")
    out = [f"{'; '.join(parts)}." if parts else "no weight."]
    if "learning further on" in found.fates.values():
        out.append(
            "Further on: a bound holds the update below order one in the first feature that it reaches, not in a later one."
        )
    for (weight, quantity), one in found.pieces.items():
        out += [f"{weight}, {QUANTITIES[quantity]}: {where}." for where in _by_ratio(found, one)]
    out += named(found)
    if found.group:
        listed = "; or ".join(map(_shift, found.group[:MOST_SHIFTS]))
        if len(found.group) > MOST_SHIFTS:
            listed += f"; and {len(found.group) - MOST_SHIFTS} more between other weights"
        out.append(f"The same output and training, for any power θ of the widths: {listed}.")
    return [*out, *found.notes]


def named(found: Solution) -> list[str]:
    """Which registered parameterizations the solution is, in sentences; which it nearly is if it is none."""
    out = _named(found.matches, "This is", "This is")
    if found.first_matches:
        out += _named(found.first_matches, "At the first step it is", "At the first step it is")
    return out


def _named(matches: Sequence[Match], is_: str, nearly: str) -> list[str]:
    alike = [m for m in matches if m.found]
    if not alike:
        return [f"{nearly} {_cited(m)}{_apart(m)}." for m in matches]
    groups: dict[str, list[Match]] = {}
    for m in alike:
        groups.setdefault(_apart(m), []).append(m)
    (how, first), *others = groups.items()
    also = [m.name for m in first[1:]]
    more = f"; for this model so {'is' if len(also) == 1 else 'are'} {_and(also)}" if also else ""
    out = [f"{is_} {_cited(first[0])}{how}{more}."]
    if others:
        listed = "; ".join(f"{_and([m.name for m in own])}{how}" for how, own in others)
        out.append(f"In another gauge it is {listed.replace(GAUGE, '')}.")
    return out


GAUGE = " in another gauge"


def _shift(shift: Shift) -> str:
    """What it does to inits, and to the rates; decay and ε go along (JSON has them)."""

    def listed(quantity: str) -> str:
        own = [(u.split(maxsplit=1)[1], e) for u, e in shift.powers if u.startswith(f"{quantity} ")]
        return ", ".join(f"{w} · θ" + ("" if e == 1 else f"^({e})") for w, e in own)

    return "; ".join(f"{word} {listed(q)}" for q, word in (("init", "inits"), ("lr", "rates")) if listed(q)).replace(";", ",")


def _cited(m: Match) -> str:
    return f"{m.name} ({m.source})" if m.source else m.name


def _apart(m: Match) -> str:
    """How a solution and a registered parameterization differ, to go on from its name."""
    parts: list[str] = []
    if m.found.own:
        parts.append(f"{GAUGE} (multipliers: " + ", ".join(f"{w} · {theta}" for w, theta in m.found.own.items()) + ")")
    if m.along:
        parts.append(" with all dims in proportion" if m.along == "proportional" else f" for {m.along}")
    parts += [f", up to {_shift(shift)} with θ = {theta}" for shift, theta in m.found.shared]
    if m.found.differs:
        own = [
            f"the {NAMES[q]} of {w} ({a}, there {b})" for w, each in m.found.differs.items() for q, (a, b) in each.items()
        ]
        parts.append(f", but for {_and(own)}")
    return "".join(parts)


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _by_ratio(found: Solution, pieces: Sequence[Piece | Sector]) -> list[str]:
    """Which piece holds where, in words; of several dims an example each (on a path itself: what meets is in the table)."""
    a, b = found.dims[:2]
    if found.regime.kind == "free" and all(isinstance(p, Sector) for p in pieces):
        known = [(p.scale, min((way.text for way in p.along), key=len)) for p in pieces if isinstance(p, Sector)]
        return [", ".join(f"{scale} for example along {text}" for scale, text in known)]

    def bound(rho: Fraction) -> str:
        return a if rho == 1 else f"{a}^({rho})"

    out: list[str] = []
    for piece in pieces:
        if isinstance(piece, Sector):
            continue
        if piece.high is None:
            where = f"above {bound(piece.low)}"
        else:
            where = f"between {bound(piece.low)} and {bound(piece.high)}" if piece.low > 0 else f"below {bound(piece.high)}"
        out.append(f"{piece.scale} for {b} {where}")
    return [", ".join(out)] if out else []


def to_terminal(found: Solution, *, width: int = 80, color: bool = False) -> str:
    """For a person, at most ``width`` columns wide."""
    from scalecalc.report.terminal import draw

    pairs = [(section, section) for section in sections(found)]
    return draw(heading(found), pairs, closing(found), width=width, color=color)


def to_markdown(found: Solution) -> str:
    """As GitHub-flavoured Markdown."""
    from scalecalc.report.markdown import document

    return document(heading(found), sections(found), closing(found))


def to_latex(found: Solution, *, standalone: bool = False) -> str:
    """As booktabs tables; see :mod:`scalecalc.report.latex`."""
    from scalecalc.report.latex import solution

    return solution(found, standalone=standalone)


def to_csv(found: Solution) -> str:
    """One line per weight, quantity, piece and dim."""
    return csv_of(COLUMNS, _lines(found))


def _lines(found: Solution) -> Iterator[dict[str, Any]]:
    common = {"optimizer": found.optimizer, "regime": found.regime.text, "model": found.model}
    for weight, s in found.scalings.items():
        for quantity in QUANTITIES:
            scale = getattr(s, quantity)
            if scale is None:
                continue
            bound = found.bounds.get((weight, quantity))
            about = {
                "weight": weight, "role": s.role, "quantity": quantity, "does": found.fates.get(weight, ""),
                "bound_by": "; ".join(bound.rows) if bound else "", **common,
            }  # fmt: skip
            steps = [("", scale)]
            if quantity == "lr" and found.first is not None and found.first[weight].lr is not scale:
                steps.append(("1", found.first[weight].lr))
            for piece in found.pieces.get((weight, quantity), ()):
                where = (
                    {"along": piece.along[0].text} if isinstance(piece, Sector)
                    else {"rho_low": piece.low, "rho_high": piece.high}
                )  # fmt: skip
                yield from _powers(found, piece.scale, {**about, **where})
            for step, one in steps:
                yield from _powers(found, one, {**about, "step": step})


def _powers(found: Solution, scale: Scale, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for dim in found.dims:
        yield {**about, "dim": dim, "power": scale.power(dim), "log_power": scale.log_power(dim)}


def to_json(found: Solution) -> str:
    """One object: the parameterization in the shape that ``--parameterization FILE`` reads, and the reasons beside it."""
    from scalecalc.report.json import SCHEMA, plain, row_object

    data = {
        "schema": SCHEMA,
        "command": "solve",
        "version": __version__,
        "model": found.model,
        "optimizer": found.optimizer,
        "regime": found.regime.text,
        "dims": list(found.dims),
        "options": dict(found.options),
        "parameterization": {w: _weight(found, w) for w in found.scalings},
        "first_step": {w: scales(s) for w, s in found.first.scalings.items()} if found.first is not None else None,
        "weights": {
            w: {
                "does": found.fates.get(w, ""),
                "bound_by": {q: list(b.rows) for (name, q), b in found.bounds.items() if name == w},
                "tied_with": {q: list(b.ties) for (name, q), b in found.bounds.items() if name == w and b.ties},
            }
            for w in found.scalings
        },
        "is": [_match(m) for m in found.matches],
        "first_step_is": [_match(m) for m in found.first_matches],
        "gauge": [dict(shift.powers) for shift in found.group],
        "rows": [row_object(row) for row in found.derived] if found.derived is not None else [],
        "notes": list(found.notes),
        "seconds": found.seconds,
    }
    return json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def scales(s: Any) -> dict[str, dict[str, str]]:
    """A weight's scalings as JSON has them."""
    out: dict[str, dict[str, str]] = {}
    for quantity in QUANTITIES:
        scale = getattr(s, quantity)
        if scale is None:
            continue
        out[quantity], logs = scale.strings()
        if logs or quantity == "lr":
            out[f"{quantity}_log"] = logs
    return out


def _match(m: Match) -> dict[str, Any]:
    """A registered parameterization, with the shifts that lead to it and what differs beside them (ours, theirs)."""
    return {
        "name": m.name,
        "multipliers": {w: theta.strings()[0] for w, theta in m.found.own.items()},
        "shifts": [{"powers": dict(shift.powers), "theta": theta.strings()[0]} for shift, theta in m.found.shared],
        "differs": {
            w: {q: [{"theta": s.strings()[0], "log": s.strings()[1]} for s in pair] for q, pair in own.items()}
            for w, own in m.found.differs.items()
        },
        "along": m.along,
    }


def _weight(found: Solution, weight: str) -> dict[str, Any]:
    out: dict[str, Any] = dict(scales(found.scalings[weight]))
    own = {q: p for (w, q), p in found.pieces.items() if w == weight}
    if own:
        out["pieces"] = {q: [_piece(one) for one in p] for q, p in own.items()}
    return out


def _piece(one: Piece | Sector) -> dict[str, Any]:
    """A scale, and where it holds: for powers ρ between two bounds, or, of several dims, along paths such as these."""
    theta, log = one.scale.strings()
    if isinstance(one, Sector):
        return {"along": [{d: str(p) for d, p in way.rates} for way in one.along], "theta": theta, "log": log}
    return {"rho": [str(one.low), str(one.high) if one.high is not None else "inf"], "theta": theta, "log": log}


def contradiction_json(error: Contradiction) -> str:
    """What ``--format json`` prints where there is no solution."""
    from scalecalc.report.json import SCHEMA

    data = {
        "schema": SCHEMA,
        "command": "solve",
        "version": __version__,
        "model": error.model,
        "contradiction": [{"row": label, "is": wanted, "power": str(power)} for label, power, wanted in error.rows],
        "clash": error.clash,
        "product": str(error.product),
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
