"""Every deliberate error of scalecalc, under one root.

A :class:`ScalecalcError` is a message for the user: it says what is wrong, where, with which values, and what to do
next.  The command line prints it without a traceback and exits with :attr:`ScalecalcError.exit_status`.  Anything else
that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


class ScalecalcError(Exception):
    """Root of every deliberate error."""

    exit_status = 2


class InputError(ScalecalcError):
    """What the user asked for cannot be understood: an option, a dim, a file."""


class UnknownName(InputError):
    """A name that nothing is registered under; carries the names that are.

    >>> raise UnknownName("model", "s5", ["s6", "mlp"])
    Traceback (most recent call last):
    ...
    scalecalc.errors.UnknownName: there is no model 's5'; did you mean 's6'? Known: mlp, s6.
    """

    def __init__(self, what: str, name: str, known: Iterable[str]):
        self.what, self.name, self.known = what, name, sorted(known)
        close = difflib.get_close_matches(name, self.known, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        super().__init__(f"there is no {what} {name!r}{hint} Known: {', '.join(self.known) or 'none'}.")


class Contradiction(ScalecalcError):
    """What a parameterization is required to do cannot be done.

    Args:
        rows: the rows that contradict each other, none of which can be left out; to which power each is taken; and what it
            has to be, in words.
        product: what their sizes, over what they have to be, then come to: a known scale above one.
        clash: a sentence on what two of the rows ask of one rate.
    """

    exit_status = 1

    def __init__(self, model: str, rows: Sequence[tuple[str, object, str]], product: object, clash: str = ""):
        self.model, self.rows, self.product, self.clash = model, tuple(rows), product, clash
        width = max((len(label) for label, _, _ in rows), default=0)
        lines = "".join(f"\n  {label:{width}}  {wanted}" for label, _, wanted in rows)
        over, under = (
            " × ".join(f"({label})" + ("" if y in (1, -1) else f"^{str(y).lstrip('-')}") for label, y in part)
            for part in (
                [(label, y) for label, y, _ in rows if not str(y).startswith("-")],
                [(label, y) for label, y, _ in rows if str(y).startswith("-")],
            )
        )
        super().__init__(
            f"no parameterization of {model} can do all that is required. These contradict each other, and no fewer do:"
            f"{lines}\n" + (f"{clash}\n" if clash else "") + f"Whatever the inits and rates are, {over}"
            f"{f' / ({under})' if under else ''} is {product} times what it has to be. Leave one of the requirements out, or "
            "ask for another size."
        )


class UnknownRow(UnknownName):
    """A table has no such row; the message has the rows of that name, or else the names most like it.

    Args:
        asked: what was asked for, in words.
        name: the row's name alone.
        rows: label of every row in the table → its name.
    """

    MOST = 6

    def __init__(self, asked: str, name: str, rows: Mapping[str, str]):
        self.what, self.name, self.known = "row", asked, sorted(rows)
        names = list(dict.fromkeys(rows.values()))
        if name in names:
            own = [label for label, known in rows.items() if known == name]
            near = sorted(own, key=lambda label: -_likeness(asked, label))[: self.MOST]
            hint = f"rows of that name: {'; '.join(near)}" + ("; …" if len(own) > len(near) else "")
        else:
            near = difflib.get_close_matches(name, names, n=self.MOST, cutoff=0.4)
            hint = f"similar names: {', '.join(near)}" if near else f"names: {', '.join(names[: 2 * self.MOST])}"
            hint += ", …" if not near and len(names) > 2 * self.MOST else ""
        InputError.__init__(self, f"there is no row {asked!r}; {hint}.")


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.casefold(), b.casefold()).ratio()


class ProgramError(ScalecalcError):
    """An architecture records something that is no program: wrong axes, a missing weight, a name used twice."""


class MissingRule(ScalecalcError):
    """The program uses an operation that no rule describes."""

    def __init__(self, operation: str, place: str, known: Iterable[str]):
        self.operation, self.place = operation, place
        super().__init__(
            f"no rule for the operation {operation!r} (at {place}). Write one: `scalecalc new rule {operation} -o my_rules` "
            f"begins a file that registers {operation!r} with its law, its backward and its torch code; change these, then "
            f"add --rules my_rules to the command. See 'Add a rule' in CONTRIBUTING.md. "
            f"Known operations: {', '.join(sorted(known))}."
        )


class UnsupportedScale(ScalecalcError):
    """A rule met sizes for which it has no law, for instance a step size that is not of order one."""


class MeasureError(ScalecalcError):
    """A measurement cannot be made as asked: too large for the memory, or no width left to compare."""
