"""Alignments that are assumed or measured instead of derived.

Whether the entries of a sum add up (Σ a·b = ‖a‖ ‖b‖) or not (‖a‖ ‖b‖ / √N) is derived by default, from what is random in
both factors.  Others assume it, or measure it, and put it in:

- ``full``: Everett et al. 2024 (arXiv 2407.05872, sec. 3), products of a weight W = W₀ + ΔW with activations z + Δz: what has
  moved is aligned, ΔW z and ΔW Δz (their α = u = 1), and W₀ Δz is not (ω = 1/2);
- ``none``: nothing is (α = ω = u = 1/2);
- a file: what ``scalecalc verify MODEL --format json`` measured of the sums that it names.

A policy (:class:`Alignment`) is asked where the law of a sum is chosen, :meth:`scalecalc.value.Algebra.contract`, once per
pair of terms, and answers with the cosine, or None where the law is derived.  Every use is an assumption of the derivation.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import Any

from scalecalc.errors import InputError
from scalecalc.program import Program
from scalecalc.scale import Scale
from scalecalc.term import dim_of

ONE, HALF = Scale.one(), Fraction(1, 2)
NAMED = ("derived", "full", "none")
STEP = Fraction(1, 4)  # alignments that are told apart when a measured one is read
FORMS = "write derived, full, none, or a file made by scalecalc verify MODEL --format json -o FILE.json"

Tag = tuple[str, ...]


class Alignment(ABC):
    """Which law a sum has, where it is not derived."""

    text: str

    @abstractmethod
    def covers(self, place: int) -> bool:
        """Does the policy have anything to say of the operation at this position?"""

    @abstractmethod
    def cosine(self, place: int, a: Tag, b: Tag, over: Sequence[str]) -> tuple[Scale, str] | None:
        """The cosine of the sum of two terms with these tags over these axes, and why; None where it is derived."""

    def notes(self) -> tuple[str, ...]:
        """What a reader of the table must know."""
        return ()


@dataclass(frozen=True)
class Assumed(Alignment):
    """Alignments of weights' products by what has moved.

    Args:
        products: position of every product of a weight in the forward pass → which of its inputs is the weight.
        alpha, omega, u: ΔW z, W₀ Δz and ΔW Δz are as large as N to this power times their entries' sizes.
    """

    text: str
    products: Mapping[int, int]
    alpha: Fraction
    omega: Fraction
    u: Fraction

    def covers(self, place: int) -> bool:
        return place in self.products

    def cosine(self, place: int, a: Tag, b: Tag, over: Sequence[str]) -> tuple[Scale, str] | None:
        weight, z = (a, b) if self.products[place] == 0 else (b, a)
        if not weight and not z:
            return None
        both = ("ΔW Δz, u", self.u)
        name, power = both if weight and z else ("ΔW z, α", self.alpha) if weight else ("W₀ Δz, ω", self.omega)
        cosine = ONE
        for label in over:
            cosine = cosine * Scale.of(dim_of(label), power - 1)
        return cosine, f"alignment {self.text}: {name} = {power} (Everett et al. 2024)"

    def notes(self) -> tuple[str, ...]:
        return (
            f"Alignments of weights' products are assumed, not derived: {self.text} (Everett et al. 2024: α = {self.alpha}, "
            f"ω = {self.omega}, u = {self.u}).",
        )


@dataclass(frozen=True)
class Measured(Alignment):
    """Cosines as they were measured.

    Args:
        cosines: position of the sum → tag → its cosine and how it was read.
    """

    text: str
    cosines: Mapping[int, Mapping[Tag, tuple[Scale, str]]]
    remarks: tuple[str, ...]

    def covers(self, place: int) -> bool:
        return place in self.cosines

    def cosine(self, place: int, a: Tag, b: Tag, over: Sequence[str]) -> tuple[Scale, str] | None:
        return self.cosines[place].get(tuple(sorted(a + b)))

    def notes(self) -> tuple[str, ...]:
        return self.remarks


def parse_alignment(text: str, program: Program) -> Alignment | None:
    """``derived``, ``full``, ``none`` or the name of a file; None: all are derived.

    Raises:
        InputError: none of these; a file that has no measured alignments, or those of another model.
    """
    if text == "derived":
        return None
    if text in NAMED:
        moved = Fraction(1) if text == "full" else HALF
        return Assumed(text, _products(program), moved, HALF, moved)
    path = Path(text)
    if not path.is_file():
        raise InputError(f"--alignment {text[:80]!r} is neither a name nor a file; {FORMS}.")
    return _measured(path, program)


def _products(program: Program) -> dict[int, int]:
    """The products of a weight with an activation in the forward pass."""
    out: dict[int, int] = {}
    for i, op in enumerate(program.ops):
        weights = [k for k, j in enumerate(op.inputs) if program.ops[j].rule == "weight"]
        if op.rule == "matmul" and not op.backward and weights:
            out[i] = weights[0]
    return out


def _measured(path: Path, program: Program) -> Measured:
    from scalecalc.rows import sums

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = [row for row in found["rows"] if row["kind"] == "alignment"]
    except OSError as error:
        raise InputError(f"the alignment file {str(path)!r} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(path)!r} is no table of scalecalc's in JSON; {FORMS}.") from error
    features = list(program.features.values())
    weights = program.leaves("weight").values()
    wanted = features + [program.gradients[i] for i in [*features, *weights] if i in program.gradients]
    live = [one or None for one in program.live(wanted)]
    places = {name: i for i, name, _ in sums(program, live)}
    cosines: dict[int, dict[Tag, tuple[Scale, str]]] = {}
    remarks: list[str] = []
    for row in rows:
        if not isinstance(row.get("measured"), dict) or row.get("verdict") == "agrees":
            continue
        name, tag = row["row"], tuple(sorted(row.get("tag", [])))
        words = name + (f" by {'+'.join(tag)}" if tag else "")
        if name not in places or any(w not in program.weights for w in tag):
            raise InputError(f"{path.name} has a sum {words} that {program.name} has not; it is of another model.")
        read = [_read(dim, slope, program) for dim, slope in row["measured"].items()]
        if None in read:
            remarks.append(f"{path.name}: {name} was not measured well enough to be used; its alignment is derived.")
            continue
        cosine = ONE
        for one in filter(None, read):
            cosine = cosine * one[0]
        said = f"the cosine of {words} is {cosine}"
        centres = [text for one in filter(None, read) if (text := one[1])]
        cosines.setdefault(places[name], {})[tag] = cosine, f"alignment {path.name}: {said} as measured"
        remarks.append(f"{path.name}: {said}, as measured" + (f" ({'; '.join(centres)})" if centres else "") + ".")
    if not any(isinstance(row.get("measured"), dict) for row in rows):
        raise InputError(f"{str(path)!r} has no measured alignments; {FORMS}.")
    if not cosines:
        remarks.append(f"{path.name}: every alignment that it has was measured as derived.")
    return Measured(str(path), cosines, tuple(remarks))


def _read(dim: str, slope: Mapping[str, Any], program: Program) -> tuple[Scale, str] | None:
    """A measured exponent of a cosine: the one multiple of 1/4 within its interval, else the interval's centre."""
    if dim not in program.dims:
        raise InputError(f"the alignment file has slopes in {dim}, which does not grow in {program.name}.")
    try:
        low, high = float(slope["low"]), float(slope["high"])
    except (KeyError, TypeError, ValueError):
        return None
    if not (isfinite(low) and isfinite(high)) or low > high or max(abs(low), abs(high)) > 10:
        return None
    first = -((-Fraction(low)) // STEP)  # the ceiling
    inside = [k * STEP for k in range(int(first), int(Fraction(high) // STEP) + 1)]
    if len(inside) == 1:
        return Scale.of(dim, inside[0]), ""
    centre = Fraction(round((low + high) / 2 * 1000), 1000)
    why = "no multiple of 1/4 lies" if not inside else "several multiples of 1/4 lie"
    return Scale.of(dim, centre), f"{dim}: {why} between {low:.3f} and {high:.3f}, so the centre {centre}"
