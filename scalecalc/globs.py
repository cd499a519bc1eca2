"""Shell patterns for names of weights and parameters: a name itself wins, then the pattern with most literal characters.

>>> chosen({"*": 1, "layers.*.weight": 2, "layers.0.weight": 3}, "layers.7.weight")
'layers.*.weight'
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from scalecalc.errors import InputError


def chosen(patterns: Mapping[str, Any], name: str) -> str | None:
    """The pattern that a name goes by; None if none matches.

    Raises:
        InputError: two patterns match equally well and say different things.
    """

    def literal(key: str) -> tuple[bool, int]:
        return key == name, sum(c not in "*?[]" for c in key)

    keys = sorted((k for k in patterns if k == name or fnmatch.fnmatchcase(name, k)), key=literal)
    if len(keys) > 1 and literal(keys[-1]) == literal(keys[-2]) and patterns[keys[-1]] != patterns[keys[-2]]:
        raise InputError(f"{keys[-2]!r} and {keys[-1]!r} match {name} equally well; write {name!r} itself beside them.")
    return keys[-1] if keys else None


def idle(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """The patterns that match no name."""
    known = list(names)
    return [p for p in patterns if p not in known and not any(fnmatch.fnmatchcase(n, p) for n in known)]
