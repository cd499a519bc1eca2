"""Every deliberate error of scalecalc, under one root.

A :class:`ScalecalcError` is a message for the user: it says what is wrong, where, with which values, and what to do
next.  The command line prints it without a traceback and exits with :attr:`ScalecalcError.exit_status`.  Anything else
that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


class ProgramError(ScalecalcError):
    """An architecture records something that is no program: wrong axes, a missing weight, a name used twice."""


class MissingRule(ScalecalcError):
    """The program uses an operation that no rule describes."""

    def __init__(self, operation: str, place: str, known: Iterable[str]):
        self.operation, self.place = operation, place
        super().__init__(
            f"no rule for the operation {operation!r} (at {place}). Write one: a file in a folder of yours, given by "
            f"--rules, that registers {operation!r} with its law, its backward and its torch code; see 'Add a rule' in "
            f"CONTRIBUTING.md. Known operations: {', '.join(sorted(known))}."
        )


class UnsupportedScale(ScalecalcError):
    """A rule met sizes for which it has no law, for instance a step size that is not of order one."""


class MeasureError(ScalecalcError):
    """A measurement cannot be made as asked: too large for the memory, or no width left to compare."""
