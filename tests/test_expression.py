"""Expressions that a user types: what is read, and that nothing else is."""

from __future__ import annotations

import pytest
import sympy as sp

from scalecalc.asymptotics import N, U, V, n
from scalecalc.errors import InputError
from scalecalc.expression import parse_expression

READ = {
    "-(n+1)": -(n + 1),
    "-(n+1)^2": -((n + 1) ** 2),
    "-(n+1)**2": -((n + 1) ** 2),
    "-1/2+I*pi*n": -sp.Rational(1, 2) + sp.I * sp.pi * n,
    "-1/2 + I*N/pi*(N/(2*n+1)-1)": -sp.Rational(1, 2) + sp.I * N / sp.pi * (N / (2 * n + 1) - 1),
    "-0.1*sqrt(n+1)": -sp.Rational(1, 10) * sp.sqrt(n + 1),
    "log(U)/2 + 2*pi*I*V": sp.log(U) / 2 + 2 * sp.pi * sp.I * V,
    "-exp(n^(1/2))": -sp.exp(sp.sqrt(n)),
    "+2": sp.Integer(2),
}
REFUSED = {
    "__import__('os').system('true')": "not understood",
    "n.__class__": "not understood",
    "(lambda: n)()": "not understood",
    "[n]": "not understood",
    "x+1": "not understood",
    "sin(n)": "not understood",
    "exp(n, n)": "not understood",
    "exp(x=n)": "not understood",
    "True": "not understood",
    "'n'": "not understood",
    "n if n else 1": "not understood",
    "n // 2": "not understood",
    "-(n+1": "cannot be read",
    "": "cannot be read",
    "n\x00": "cannot be read",
    "9^9^9": "power",
    "n^I": "power",
    "((n+1)^20)^20": "power 400",
    "n^20*n^20": "power 40",
    "exp(exp(exp(exp(100))))": "too large",
    "(9^9)^9": "too large",
    "n*(10^9*10^9)": "too large",
    "1e400": "too large",
    "12345678901234567890123": "too large",
    "1/0": "not finite",
    "log(0)": "not finite",
    "n+" * 200 + "n": "too long",
    "1j": "not understood",
}


@pytest.mark.parametrize("text", READ)
def test_what_is_read(text: str) -> None:
    assert sp.simplify(parse_expression(text) - READ[text]) == 0


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=REFUSED[text]):
        parse_expression(text)


def test_deep_nesting_is_refused_or_read_and_does_not_fail() -> None:
    assert parse_expression("(" * 60 + "n" + ")" * 60) == n
