"""What leads at infinity, against numbers far out; and what is not said is not."""

from __future__ import annotations

import mpmath
import pytest
import sympy as sp

from scalecalc.asymptotics import X, growth
from scalecalc.exponentials import lead

SAID = [
    X / (1 + sp.exp(-X)),
    sp.log(1 + sp.exp(X)) - X / 2,
    sp.log(1 + sp.exp(-X)) * X,
    sp.log(2 + 1 / X),
    sp.log(1 + 1 / (X + X**2)),
    sp.tanh(3 - X) * (X + 2),
    (1 + sp.exp(-X)) ** -2 * (3 - X),
    sp.sqrt(X**2 + 1) / (1 + X**3),
    sp.exp(3 - X) - sp.exp(-X),
    (X - 2 * sp.exp(X) - 3 * X * sp.exp(X)) / (1 + sp.exp(2 * X)),
]
NOT_SAID = [
    X - sp.log(1 + sp.exp(X)),
    sp.exp(X) / (1 + sp.exp(X)) - 1,
    sp.log(X),
    sp.exp(-(X**2)),
    sp.sin(X),
    (1 - X) ** sp.Rational(1, 2),
    sp.log(1 + sp.Symbol("a") * X),
    sp.exp(X) + sp.exp(sp.Symbol("a") * X),
]


@pytest.mark.parametrize("f", SAID, ids=str)
def test_what_leads(f: sp.Expr) -> None:
    found = lead(f, X)
    assert found is not None
    ratio = sp.lambdify(X, f / (found.c * X**found.d * sp.exp(found.k * X)), "mpmath")
    with mpmath.workdps(200):
        assert abs(ratio(mpmath.mpf(100)) - 1) < 0.05


@pytest.mark.parametrize("f", NOT_SAID, ids=str)
def test_what_is_left_to_sympy(f: sp.Expr) -> None:
    assert lead(f, X) is None


def test_growth_asks_it() -> None:
    assert [growth(f, X) for f in SAID[:3]] == [1, 1, "negligible"]
    assert growth(sp.exp(X) / X, X) == "overflow"
