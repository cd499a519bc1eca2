"""Where the operations of torch are registered, under the names that torch gives them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

Handler = Callable[..., Any]
TABLE: dict[str, Handler] = {}


def torch_op(*names: str) -> Callable[[Handler], Handler]:
    """Register what torch calls ``aten.NAME``."""

    def decorate(function: Handler) -> Handler:
        for name in (name if "." not in name else f"aten.{name}" for name in names):
            assert name not in TABLE, f"two functions for {name}"
            TABLE[name] = function
        return function

    return decorate


def rules(module: str) -> Any:
    """A module of rules; by its name, since in a checkout the folder is mounted while running."""
    return importlib.import_module(f"scalecalc.rules.{module}")
