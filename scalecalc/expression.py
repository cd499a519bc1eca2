"""An expression in the index that a user typed, made a sympy object by a whitelist.

Text is parsed to Python's syntax tree and rebuilt node by node; nothing is ever evaluated as code or given to sympify.

>>> parse_expression("-(n+1)^2"), parse_expression("-1/2 + I*pi*n")
(-(n + 1)**2, I*pi*n - 1/2)
>>> parse_expression("__import__('os')")
Traceback (most recent call last):
scalecalc.errors.InputError: in the expression "__import__('os')", "__import__('os')" is not understood; write numbers, ...
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from scalecalc.errors import InputError

if TYPE_CHECKING:
    import sympy as sp

FORMS = (
    "write numbers, n (the index, from 0), N (the width), U and V (random, uniform on [0, 1]), I, pi, + - * / ^, "
    "exp, log and sqrt: -(n+1), -1/2+I*pi*n"
)
LONGEST = 200
LARGEST_POWER = 20
LARGEST_NUMBER = 10**9


def parse_expression(text: str) -> sp.Expr:
    """The sympy expression of a text in n and N.

    Raises:
        InputError: anything but the forms above, or a number or power too large to be meant.
    """
    if len(text) > LONGEST:
        raise InputError(f"an expression of {len(text)} characters is too long; the most is {LONGEST}.")
    try:
        tree = ast.parse(text.replace("^", "**").strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"the expression {text!r} cannot be read; {FORMS}.") from error
    return _Builder(text).build(tree.body)


class _Builder:
    def __init__(self, text: str):
        import sympy as sp

        from scalecalc.asymptotics import N, U, V, n

        self.text = text
        self.names: dict[str, Any] = {"n": n, "N": N, "U": U, "V": V, "I": sp.I, "pi": sp.pi}
        self.calls: dict[str, Any] = {"exp": sp.exp, "log": sp.log, "sqrt": sp.sqrt}

    def build(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool()):
                raise self.refuse(node)
            case ast.Constant(value=int() | float()):
                return self.number(node)
            case ast.Name(id=name) if name in self.names:
                return self.names[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.build(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.build(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return self.checked(node, self.operate(node, self.build(left), op, self.build(right)))
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in self.calls:
                return self.checked(node, self.calls[name](self.build(argument)))
            case _:
                raise self.refuse(node)

    def number(self, node: ast.Constant) -> Any:
        import sympy as sp

        written = ast.get_source_segment(self.text.replace("^", "**").strip(), node) or str(node.value)
        if not abs(complex(node.value)) <= LARGEST_NUMBER or len(written) > 20:
            raise InputError(f"in the expression {self.text!r}, the number {written[:30]} is too large or too long.")
        return sp.Rational(written.replace("_", "")) if isinstance(node.value, float) else sp.Integer(node.value)

    def operate(self, node: ast.expr, left: Any, op: ast.operator, right: Any) -> Any:
        match op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                return left / right
            case ast.Pow() if right.is_number and not (right.is_real and abs(right) <= LARGEST_POWER):
                raise self.too_large(right)
            case ast.Pow():
                return left**right
            case _:
                raise self.refuse(node)

    def checked(self, node: ast.expr, value: Any) -> Any:
        """The value, unless it is infinite or so large that sympy would not come back from it (powers multiply)."""
        import sympy as sp

        if value.has(sp.zoo, sp.nan, sp.oo, -sp.oo):
            raise InputError(f"in the expression {self.text!r}, {self.segment(node)!r} is not finite.")
        if value.is_number and not abs(value) <= LARGEST_NUMBER:
            raise InputError(f"in the expression {self.text!r}, the number {self.segment(node)} is too large.")
        for power in value.atoms(sp.Pow):
            if power.exp.is_number and not abs(power.exp) <= LARGEST_POWER:
                raise self.too_large(power.exp)
        return value

    def too_large(self, power: Any) -> InputError:
        words = f"the power {power} is not a real number of at most {LARGEST_POWER}"
        return InputError(f"in the expression {self.text!r}, {words}.")

    def refuse(self, node: ast.expr) -> InputError:
        return InputError(f'in the expression "{self.text}", "{self.segment(node)}" is not understood; {FORMS}.')

    def segment(self, node: ast.expr) -> str:
        return ast.get_source_segment(self.text.replace("^", "**").strip(), node) or self.text
