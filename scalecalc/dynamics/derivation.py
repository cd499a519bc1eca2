r"""A derivation: lines of words and equations, each an identity that sympy found to hold, or a definition.

Every line with a check is an identity whose two sides sympy subtracted and found to be exactly 0; one that does not come out
is an error of ours and raises.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import sympy as sp

T = sp.Symbol("t", nonnegative=True)


@dataclass(frozen=True)
class Line:
    """One line of a derivation.

    Args:
        words: what is said.
        left, right: the equation, sympy's; None where there is none.
        check: what sympy found to be 0; None for a definition.
    """

    words: str
    left: Any = None
    right: Any = None
    check: Any = None


@dataclass(frozen=True)
class Derivation:
    """The lines on one topic."""

    topic: str
    title: str
    lines: tuple[Line, ...]


def define(words: str, left: Any = None, right: Any = None) -> Line:
    return Line(words, left, right)


def proved(words: str, left: Any, right: Any, difference: Any = None) -> Line:
    """An identity.  ``difference``: of the two sides, where ``left`` is but a name."""
    found = sp.sympify(left, strict=True) - right if difference is None else sp.sympify(difference, strict=True)
    rest = sp.simplify(sp.expand(found))
    if rest != 0:
        rest = sp.simplify(sp.factor(sp.powsimp(sp.expand(rest.rewrite(sp.exp)), force=True)))
    if rest != 0:
        raise AssertionError(f"{words}: {rest} is left over")
    return Line(words, left, right, sp.Integer(0))


def equation(line: Line) -> str:
    return "" if line.right is None else f"{line.left} = {line.right}"


def latex(line: Line) -> str:
    return "" if line.right is None else rf"\text{{{line.left}}} = {sp.latex(line.right)}"


def to_object(one: Derivation) -> dict[str, Any]:
    lines = [
        {"words": line.words, "equation": equation(line), "verified": line.check is not None} for line in one.lines
    ]
    return {"topic": one.topic, "title": one.title, "lines": lines}


def to_text(one: Derivation, width: int) -> str:
    out = [one.title, ""]
    for number, line in enumerate(one.lines, 1):
        out += textwrap.wrap(line.words, width - 6, initial_indent=f"{f'[{number}]':>5} ", subsequent_indent="      ")
        if line.right is not None:
            out += textwrap.wrap(
                equation(line), width - 10, initial_indent="          ", subsequent_indent="            "
            )
        if line.check is not None:
            out.append("          verified: the difference of both sides is 0")
    return "\n".join(out) + "\n"


def to_markdown(one: Derivation) -> str:
    out = [f"### {one.title}", ""]
    for number, line in enumerate(one.lines, 1):
        said = f" `{equation(line)}`" if line.right is not None else ""
        out.append(f"{number}. {line.words}{said}{' (verified: 0)' if line.check is not None else ''}")
    return "\n".join(out) + "\n"
