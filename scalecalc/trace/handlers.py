"""Where the operations of torch are registered, under the names that torch gives them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

Handler = Callable[..., Any]
TABLE: dict[str, Handler] = {}


RAW: set[str] = set()  # those that are given constants as they are


def torch_op(*names: str, raw: bool = False) -> Callable[[Handler], Handler]:
    """Register what torch calls ``aten.NAME``, or by its full name (``scalecalc.selective_scan.default``).

    ``raw``: constants are given as they are, not as tables of the program.
    """

    def decorate(function: Handler) -> Handler:
        for name in (f"aten.{name}" if name.count(".") == 1 else name for name in names):
            assert name not in TABLE, f"two functions for {name}"
            TABLE[name] = function
            if raw:
                RAW.add(name)
        return function

    return decorate


def rules(module: str) -> Any:
    """A module of rules; by its name, since in a checkout the folder is mounted while running."""
    return importlib.import_module(f"scalecalc.rules.{module}")
