"""What a computation with patterns has looked at: which sources it opened, which it made, which cosines it took.

A source is what a slot was summed with, and sources nest as deep as a network.  But hardly anything looks into one: laws
compare them as the objects that they are.  Whoever needs to know what a result rests on (:mod:`scalecalc.alike`) can have it
noted here, also where the result was known from before: a function that is :func:`noted` remembers with every result what it
looked at.

Only three things look into a source, or have one that was not there before: it is opened, it is made, or the cosine of two is
taken, which opens what is within them as far down as it takes, and says of it one number alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

OPENED, MADE, COSINE = "opened", "made", "cosine"
Read = tuple[Any, ...]  # (OPENED, source), (MADE, source) or (COSINE, source, source)
Log = dict[Read, Any]  # in order; of a cosine its value
P = ParamSpec("P")
R = TypeVar("R")

_logs: list[Log] = []  # those that are kept at present, one within the other


def note(*read: Any) -> None:
    """Tell whoever listens that a source was opened or made."""
    if _logs:
        _logs[-1][read] = None


@contextmanager
def listening() -> Generator[Log]:
    """All that is looked at within.  A log within another keeps what it hears to itself."""
    log: Log = {}
    _logs.append(log)
    try:
        yield log
    finally:
        assert _logs.pop() is log


def noted(function: Callable[P, R], as_cosine: bool = False) -> Callable[P, R]:
    """A function computed once for every arguments, like ``functools.cache``, that notes what it looks at every time.

    ``as_cosine``: what is noted is its arguments and its value, and nothing of what it looked at for it.
    """
    results: dict[tuple[Any, ...], tuple[R, Log]] = {}

    @wraps(function)
    def call(*given: P.args, **more: P.kwargs) -> R:
        if more:
            return function(*given, **more)
        found = results.get(given)
        if found is None:
            log: Log = {}
            _logs.append(log)
            try:
                value = function(*given, **more)  # more is empty
            finally:
                _logs.pop()
            found = results[given] = value, {(COSINE, *given): value} if as_cosine else log
        if found[1] and _logs:
            _logs[-1].update(found[1])
        return found[0]

    call.cache_clear = results.clear  # type: ignore[attr-defined]
    return call


def noted_cosine(function: Callable[P, R]) -> Callable[P, R]:
    """A function of two sources, computed once; see :func:`noted`."""
    return noted(function, as_cosine=True)


__all__ = ["COSINE", "MADE", "OPENED", "Log", "Read", "listening", "note", "noted", "noted_cosine"]
