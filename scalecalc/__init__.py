"""Width scaling of neural networks with state space models: derived rule by rule, and measured.

>>> import scalecalc as sc
>>> table = sc.derive("s6", parameterization="mup_ssm", optimizer="sgd")
>>> print(table["y", "init"].formula(), "|", table["y", "update", "W_B"].formula())
1 | 1

The public names are looked up on first use (PEP 562): importing the package imports neither torch nor sympy nor pandas,
and ``--help`` does not wait for them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scalecalc._version import __version__

if TYPE_CHECKING:
    from scalecalc import torch as torch
    from scalecalc.compare import Comparison, compare
    from scalecalc.derive import derive
    from scalecalc.equivalence import equivalent
    from scalecalc.measure.verify import verify
    from scalecalc.model import TorchModule, parameterize
    from scalecalc.numbers import Numbers, numbers
    from scalecalc.parameterization import Parameterization
    from scalecalc.scale import Regime, Scale
    from scalecalc.solution import Equivalence, Solution
    from scalecalc.solve import solve
    from scalecalc.table import Row, Table

__all__ = [
    "Comparison", "Equivalence", "Numbers", "Parameterization", "Regime", "Row", "Scale", "Solution", "Table", "TorchModule",
    "__version__", "compare", "derive", "equivalent", "numbers", "parameterize", "solve", "verify",
]  # fmt: skip

_HOME = {
    "Comparison": "scalecalc.compare",
    "compare": "scalecalc.compare",
    "derive": "scalecalc.derive",
    "Equivalence": "scalecalc.solution",
    "equivalent": "scalecalc.equivalence",
    "Numbers": "scalecalc.numbers",
    "numbers": "scalecalc.numbers",
    "Parameterization": "scalecalc.parameterization",
    "parameterize": "scalecalc.model",
    "Solution": "scalecalc.solution",
    "solve": "scalecalc.solve",
    "verify": "scalecalc.measure.verify",
    "Regime": "scalecalc.scale",
    "Row": "scalecalc.table",
    "Scale": "scalecalc.scale",
    "TorchModule": "scalecalc.model",
    "Table": "scalecalc.table",
}


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the submodule scalecalc.derive would set the attribute of that name to the module, whenever it
        # happens; here it is the function.  (The module is had by ``from scalecalc.derive import …``.)
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in ("torch", "dynamics"):
        return import_module(f"scalecalc.{name}")  # packages of their own; the first imports torch
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "dynamics", "torch"]  # not in __all__: ``from scalecalc import *`` must not hide the user's torch
