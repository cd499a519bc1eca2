"""Vectors of channels for numba's kernels, and their exponential: what kernel/vector.h is to the C kernel.

A :class:`Vector` is a type of numba's that stands for one of LLVM's vectors, so that code that is written once per vector
comes out as vector instructions by construction.  Loops over the channels that LLVM was to make vectors of took two to eight
times as long: it takes half the width that the processor has, keeps no state in registers, and needs leave to reorder sums
before it vectorizes any.  A vector is as wide as two registers: the two halves of each operation need not wait for each
other.  LLVM splits what a processor has no registers for, so that the width decides about speed alone.

Arithmetic is between vectors of one kind, or a vector and a number, which becomes the vector's kind.  numba's cache goes by
the kernels' own file: after a change here, touch numba_kernels.py.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core.datamodel import models
from numba.extending import intrinsic, lower_builtin, overload, register_model, type_callable

# leave to fuse a product and a sum; none to reorder, since an exponential adds and subtracts a large number; a
# not-a-number or an infinity is one
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
INLINE: dict[str, Any] = {**OPTIONS, "forceinline": True}


def _bytes() -> int:
    """Of a vector: two registers."""
    features = binding.get_host_cpu_features()
    return 2 * next((size for name, size in (("avx512f", 64), ("avx", 32)) if features.get(name)), 16)


BYTES = _bytes()


class Vector(types.Type):
    """As many numbers of a kind as there are lanes."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.lanes = 8 * BYTES // real.bitwidth
        super().__init__(name=f"Vector({real} x {self.lanes})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.real).get_value_type(), kind.lanes))


# ------------------------------------------------------------------ operations


def _places(places: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))


def _shuffled(builder: Any, x: Any, places: Sequence[int]) -> Any:
    return builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), _places(places))


def _all(context: Any, builder: Any, x: Any, kind: Any, to: Vector) -> Any:
    """A vector, or a number in all lanes of one."""
    if kind == to:
        return x
    one = ir.Constant(context.get_value_type(to), ir.Undefined)
    number = context.cast(builder, x, kind, to.real)
    return _shuffled(builder, builder.insert_element(one, number, ir.Constant(ir.IntType(32), 0)), [0] * to.lanes)


def _arithmetic(operation: Callable[..., Any], name: str) -> None:
    @type_callable(operation)
    def _(context: Any) -> Any:
        def typer(x: Any, y: Any) -> Any:
            vectors = {t for t in (x, y) if isinstance(t, Vector)}
            numbers = [t for t in (x, y) if not isinstance(t, Vector)]
            return vectors.pop() if len(vectors) == 1 and all(isinstance(t, types.Number) for t in numbers) else None

        return typer

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = signature.return_type
        x, y = (_all(context, builder, a, t, to) for a, t in zip(args, signature.args, strict=True))
        return getattr(builder, name)(x, y, flags=("contract",))

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(operation, *kinds)(code)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")


@intrinsic
def if_less(typing: Any, a: Any, b: Any, x: Any, y: Any) -> Any:  # type: ignore[no-untyped-def]
    """x where a < b, else y, also where either is not a number."""
    to = next(t for t in (a, b, x, y) if isinstance(t, Vector))

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, x, y = (_all(context, builder, c, t, to) for c, t in zip(args, signature.args, strict=True))
        return builder.select(builder.fcmp_ordered("<", a, b), x, y)

    return to(a, b, x, y), code


@intrinsic
def total(typing: Any, x: Any) -> Any:  # type: ignore[no-untyped-def]
    """The sum over the lanes, one half added to the other again and again."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (y,) = args
        while y.type.count > 1:
            half = y.type.count // 2
            y = builder.fadd(*(_shuffled(builder, y, range(first, first + half)) for first in (0, half)))
        return builder.extract_element(y, ir.Constant(ir.IntType(32), 0))

    return x.real(x), code


def _address(context: Any, builder: Any, array: Any, value: Any, at: Any) -> Any:
    start = context.make_array(array)(context, builder, value).data
    return builder.gep(builder.bitcast(start, context.get_value_type(Vector(array.dtype)).as_pointer()), [at])


@intrinsic
def load(typing: Any, array: Any, i: Any) -> Any:  # type: ignore[no-untyped-def]
    """The i-th vector of an array of one axis."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, array, *args), align=array.dtype.bitwidth // 8)

    return Vector(array.dtype)(array, types.intp), code


@intrinsic
def store(typing: Any, x: Any, array: Any, i: Any) -> Any:  # type: ignore[no-untyped-def]
    """To where :func:`load` has it from."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[0], _address(context, builder, array, *args[1:]), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(x, array, types.intp), code


# ------------------------------------------------------------------ functions of one vector


@intrinsic
def _as_exponent(typing: Any, x: Any) -> Any:  # type: ignore[no-untyped-def]
    """The lowest bits of every lane, moved to where the exponent is."""
    mantissa = {32: 23, 64: 52}[x.real.bitwidth]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = ir.VectorType(ir.IntType(x.real.bitwidth), x.lanes)
        bits = builder.shl(builder.bitcast(args[0], whole), ir.Constant(whole, [mantissa] * x.lanes))
        return builder.bitcast(bits, args[0].type)

    return x(x), code


SINGLE = (
    0.693147188026228781, 0.240226507605681269, 0.0555035711421907782, 0.00961808255727785149, 0.00133908633646712344,
    0.000154531629451206902,
)  # fmt: skip
DOUBLE = (
    0.693147180559945309, 0.240226506959100712, 0.055504108664821627, 0.00961812910762847949, 0.00133335581464064707,
    0.000154035303933707334, 1.52527338415567726e-5, 1.32154868087055628e-6, 1.01780570877339411e-7,
    7.05489730415549928e-9, 4.45581790833606449e-10, 2.57293241773623042e-11,
)  # fmt: skip


def power(x: Any) -> Any:
    """2^x and 2^x − 1: see kernel/vector.h."""
    raise NotImplementedError


@overload(power, jit_options=INLINE)
def _(x: Any) -> Any:
    single = x.real == types.float32
    bias = 127 if single else 1023
    shift = 3 * 2.0 ** (22 if single else 51) + bias
    if single:

        def quotient(r: Any) -> Any:
            q0, q1, q2, q3, q4, q5 = SINGLE
            return q0 + r * (q1 + r * (q2 + r * (q3 + r * (q4 + r * q5))))
    else:

        def quotient(r: Any) -> Any:
            q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, q10, q11 = DOUBLE
            q = q6 + r * (q7 + r * (q8 + r * (q9 + r * (q10 + r * q11))))
            return q0 + r * (q1 + r * (q2 + r * (q3 + r * (q4 + r * (q5 + r * q)))))

    quotient = njit(**INLINE)(quotient)

    def code(x: Any) -> Any:
        x = if_less(x, -bias, -bias, x)
        x = if_less(bias + 1, x, bias + 1, x)
        shifted = x + shift
        r = x - (shifted - shift)
        less = r * quotient(r)
        up = _as_exponent(shifted) * (less + 1)
        return up, if_less(x * x, 0.25, less, up - 1)

    return code


SLOPE = tuple((k + 1) / float(np.prod(np.arange(1.0, k + 3))) for k in range(16))


def slope(z: Any) -> Any:
    """((z − 1) e^z + 1)/z² for |z| < 1/2, by its series Σ (k+1)/(k+2)! z^k."""
    raise NotImplementedError


@overload(slope, jit_options=INLINE)
def _(z: Any) -> Any:
    if z.real == types.float32:

        def single(z: Any) -> Any:
            high = SLOPE[5] + z * (SLOPE[6] + z * (SLOPE[7] + z * (SLOPE[8] + z * SLOPE[9])))
            return SLOPE[0] + z * (SLOPE[1] + z * (SLOPE[2] + z * (SLOPE[3] + z * (SLOPE[4] + z * high))))

        return single

    def double(z: Any) -> Any:
        c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15 = SLOPE
        high = c10 + z * (c11 + z * (c12 + z * (c13 + z * (c14 + z * c15))))
        high = c5 + z * (c6 + z * (c7 + z * (c8 + z * (c9 + z * high))))
        return c0 + z * (c1 + z * (c2 + z * (c3 + z * (c4 + z * high))))

    return double
