"""What a solve is asked for beside its default: equalities such as ``rms h = 1``, read from text by a whitelist.

>>> from scalecalc.scale import Scale
>>> parse_scale("N_x^(1/2) log N_x / N_u", ("N_u", "N_x"))
Θ(N_u^(-1) N_x^(1/2) log N_x)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from scalecalc.errors import InputError, UnknownName
from scalecalc.program import Program
from scalecalc.scale import Scale, fraction
from scalecalc.term import dim_of

ONE = Scale.one()
HALF = Fraction(1, 2)
STATISTICS = ("rms", "entry", "norm")
FORMS = (
    "write 'h = 1', 'rms h = N_x^(1/2)' (also entry, norm) for a feature at initialisation, 'update h = 1' or "
    "'update h by W_B = 1' for what one step changes, or stable"
)
_FACTOR = re.compile(
    r"\s*(?P<over>[/*·])?\s*(?P<log>log\s+)?(?P<name>[A-Za-z]\w*|1)(?:\s*\^\s*(?P<power>\([^()]*\)|[+-]?\d+(?:/\d+)?))?"
)
_WANT = re.compile(
    r"(?:(?P<update>update)\s+)?(?:(?P<statistic>rms|entry|norm)\s+)?(?P<feature>\S+)(?:\s+by\s+(?P<by>\S+))?\s*=\s*(?P<scale>.+)"
)


@dataclass(frozen=True)
class Requirement:
    """A feature, or what one step changes in it, is of a given size exactly.

    Args:
        kind: ``init`` or ``update``.
        by: of an update the weight that has to make it; empty if any may.
        statistic: ``rms`` or ``entry``.
        scale: the size wanted.
        text: as it was typed.
    """

    kind: str
    feature: str
    scale: Scale
    by: str = ""
    statistic: str = "rms"
    text: str = ""


def parse_requirements(texts: Sequence[str], program: Program) -> tuple[Requirement, ...]:
    """``["rms h = 1", "update y by W_B = 1"]``; several may stand in one text, divided by commas.

    Raises:
        InputError: none of the forms known, no such feature or weight, a dim that the model does not have, or two
            requirements of one thing.
    """
    out: list[Requirement] = []
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        if not text or text == "stable":
            continue
        match = _WANT.fullmatch(text) if len(text) < 200 else None
        if match is None:
            raise InputError(f"--require {text[:80]!r} is not understood; {FORMS}.")
        feature, by = match["feature"], match["by"] or ""
        if feature not in program.features:
            raise UnknownName(f"feature of {program.name}", feature, program.features)
        if by and by not in program.weights:
            raise UnknownName(f"weight of {program.name}", by, program.weights)
        if by and not match["update"]:
            raise InputError(f"--require {text!r}: only an update is made by a weight; {FORMS}.")
        scale, statistic = parse_scale(match["scale"], program.dims), match["statistic"] or "rms"
        if statistic == "norm":
            for label in program.growing(program.ops[program.features[feature]].axes):
                scale = scale / Scale.of(dim_of(label), HALF)
            statistic = "rms"
        one = Requirement("update" if match["update"] else "init", feature, scale, by, statistic, text)
        if any((o.kind, o.feature, o.by) == (one.kind, one.feature, one.by) for o in out):
            raise InputError(f"--require asks twice for the {one.kind} of {feature}.")
        out.append(one)
    return tuple(out)


def is_requirement(text: str) -> bool:
    """Has a text the form of one, whatever it names?"""
    return len(text) < 200 and _WANT.fullmatch(text) is not None


def is_stable_only(texts: Sequence[str]) -> bool:
    """Is all that is asked for that everything be stable?"""
    return any(part.strip() == "stable" for whole in texts for part in whole.split(","))


def parse_scale(text: str, dims: Sequence[str]) -> Scale:
    """A monomial in the dims and their logarithms.

    Raises:
        InputError: something else, or a dim that there is not.
    """
    out, at, clean = ONE, 0, text.strip()
    while at < len(clean):
        match = _FACTOR.match(clean, at)
        if match is None or match.end() == at or (match["name"] != "1" and match["name"] not in dims):
            raise InputError(
                f"{clean[:60]!r} is no size in {', '.join(dims)}; write 1, N_x^(1/2), N_u^-1 N_x or log N_x."
                .replace("N_x", dims[-1]).replace("N_u", dims[0])
            )
        at = match.end()
        if match["name"] == "1":
            continue
        power = fraction(match["power"] or "1")
        factor = Scale.log(match["name"], power) if match["log"] else Scale.of(match["name"], power)
        out = out / factor if match["over"] == "/" else out * factor
    if not clean:
        raise InputError(f"a size is missing; {FORMS}.")
    return out
