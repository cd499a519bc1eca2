"""An exact oracle for programs of Gaussian tensors, products, sums and polynomials: Wick's theorem, nothing else.

Such a program's result is a polynomial in independent standard normal entries: a sum of *monomials*, each a network of
tensors whose slots share indices, some free (the axes of the result), the others summed.  Its mean square over the free
axes is a network without free axes, two copies of the result with their free indices identified, and by Isserlis (1918) a
sum over all pairings of equal tensors: a pairing identifies the slots of each pair, and every index that is left then is
a sum over one dim, a loop.  The mean square is therefore an exact polynomial in the dims with integer coefficients, and
the exponents of the result's size are half those of its undominated monomials.

The engine of scalecalc follows parities and sources through a program step by step and never sees such a network.  The
two share nothing but the recorded program and the notation for Θ monomials.

Programs are written as lines of text (:func:`written`)::

    X[E M] d[M]; s = X * d / M; y = s * X / E

Leaves first (upper case: a weight, lower case: an input), then one operation per ``;``: ``a * b / N M`` multiplies, matching
labels, and sums over N and M, ``a / N`` sums, ``a + b`` and ``a - b`` add, ``a ** 2`` and ``a ** 1+2`` (a + a²) are entry by
entry, ``a | N>N' N'>N`` renames axes.  The result is the last one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import import_module
from itertools import count, product
from math import gcd, inf

import numpy as np

from scalecalc.asymptotics import x as argument
from scalecalc.program import Program, Tensor
from scalecalc.rulebook import load
from scalecalc.scale import Scale
from scalecalc.term import dim_of

load()
dot, total, rename = (
    getattr(import_module("scalecalc.rules.reduction"), name) for name in ("dot", "total", "rename")
)
elementwise, square, negative = (
    getattr(import_module("scalecalc.rules.elementwise"), name) for name in ("elementwise", "square", "negative")
)
cube = elementwise("cube", argument**3)
quadratic = elementwise("quadratic", argument + argument**2)

Index = tuple[str, int]  # a dim, and a number that tells apart the indices of one dim
Factor = tuple[str, tuple[Index, ...]]
Loops = tuple[tuple[str, int], ...]  # how many free sums over each dim
POLYNOMIALS = {"square": (2,), "cube": (3,), "quadratic": (1, 2)}
NEW = count()


# ---------------------------------------------------------------------- programs as text


def written(text: str) -> Tensor:
    """The result of a program written as the top of this file says."""
    lines = [line.strip() for line in text.split(";")]
    leaves = re.findall(r"(\w+)\[([^\]]*)\]", lines[0])
    dims = sorted({dim_of(label) for _, axes in leaves for label in axes.split()})
    program = Program(text, tuple(dims))
    known = {
        name: (program.weight if name[0].isupper() else program.input)(name, axes) for name, axes in leaves
    }
    result = list(known.values())[-1]
    for line in lines[1:]:
        name, expression = (part.strip() for part in line.split("=", 1))
        result = known[name] = _operation(known, expression)
    return result


def _operation(known: Mapping[str, Tensor], expression: str) -> Tensor:
    expression, _, renaming = expression.partition("|")
    if renaming:
        return rename(known[expression.strip()], dict(pair.split(">") for pair in renaming.split()))
    expression, _, over = expression.partition("/")
    words = expression.split()
    first = known[words[0]]
    match words[1:]:
        case []:
            return total(first, over.split())
        case ["**", power]:
            return {"2": square, "3": cube, "1+2": quadratic}[power](first)
        case ["+", other]:
            return first + known[other]
        case ["-", other]:
            return first + negative(known[other])
        case ["*", other]:
            return dot(first, known[other], over)
    raise ValueError(expression)


# ---------------------------------------------------------------------- polynomials


@dataclass(frozen=True)
class Monomial:
    """A product of entries of leaves: their indices, which of them are axes (label → index), which are summed."""

    factors: tuple[Factor, ...] = ()
    axes: tuple[tuple[str, Index], ...] = ()
    summed: tuple[Index, ...] = ()

    def replaced(self, new: Mapping[Index, Index]) -> Monomial:
        return Monomial(
            tuple((name, tuple(new.get(i, i) for i in slots)) for name, slots in self.factors),
            tuple((label, new.get(i, i)) for label, i in self.axes),
            tuple(new.get(i, i) for i in self.summed),
        )

    def fresh(self) -> Monomial:
        """The same with new indices, so that it can be multiplied with itself."""
        indices = [*self.summed, *(i for _, i in self.axes)]
        return self.replaced({i: (i[0], next(NEW)) for i in indices})

    def spread(self, labels: Iterable[str]) -> Monomial:
        """The same with more axes, along which it does not depend."""
        own = dict(self.axes)
        more = tuple((label, (dim_of(label), next(NEW))) for label in labels if label not in own)
        return Monomial(self.factors, self.axes + more, self.summed)

    def __mul__(self, other: Monomial) -> Monomial:
        """Entry by entry: axes of one label are one."""
        own, other = dict(self.axes), other.fresh()
        other = other.replaced({i: own[label] for label, i in other.axes if label in own})
        axes = self.axes + tuple(pair for pair in other.axes if pair[0] not in own)
        return Monomial(self.factors + other.factors, axes, self.summed + other.summed)

    def sum(self, over: Iterable[str]) -> Monomial:
        gone = set(over)
        axes = tuple(pair for pair in self.axes if pair[0] not in gone)
        return Monomial(self.factors, axes, self.summed + tuple(i for label, i in self.axes if label in gone))

    def rename(self, names: Mapping[str, str]) -> Monomial:
        return Monomial(self.factors, tuple((names.get(label, label), i) for label, i in self.axes), self.summed)


Polynomial = list[tuple[int, Monomial]]


def polynomial(tensor: Tensor) -> Polynomial:
    """A program's result, multiplied out."""
    program = tensor.program
    live = program.live([tensor.index])
    found: dict[int, Polynomial] = {}
    for i, op in enumerate(program.ops):
        if not live[i]:
            continue
        inputs = [found[j] for j in op.inputs]
        if op.rule in ("weight", "input"):
            axes = tuple((label, (dim_of(label), next(NEW))) for label in op.axes)
            found[i] = [(1, Monomial(((op.name, tuple(index for _, index in axes)),), axes))]
        elif op.rule in ("contraction", "matmul"):
            over = op.params["over"]
            found[i] = [(c * d, (a * b).sum(over)) for c, a in inputs[0] for d, b in inputs[1]]
        elif op.rule in POLYNOMIALS:
            found[i] = [term for power in POLYNOMIALS[op.rule] for term in _power(inputs[0], power)]
        elif op.rule == "sum":
            found[i] = [(c, a.sum(op.params["over"])) for c, a in inputs[0]]
        elif op.rule == "rename":
            found[i] = [(c, a.rename(op.params["names"])) for c, a in inputs[0]]
        elif op.rule == "negative":
            found[i] = [(-c, a) for c, a in inputs[0]]
        elif op.rule == "add":
            found[i] = [(c, a.spread(op.axes)) for each in inputs for c, a in each]
        else:
            raise NotImplementedError(f"{op.rule} is no polynomial operation")
    return found[tensor.index]


def _power(base: Polynomial, power: int) -> Polynomial:
    out = base
    for _ in range(power - 1):
        out = [(c * d, a * b) for c, a in out for d, b in base]
    return out


# ---------------------------------------------------------------------- moments


@cache
def _closed(factors: tuple[Factor, ...]) -> Mapping[Loops, int]:
    """The mean of a network with all its indices summed: loops per dim → how many pairings leave so many."""
    if not factors:
        return {(): 1}
    (name, slots), rest = factors[0], factors[1:]
    out: Counter[Loops] = Counter()
    for j, (other, partners) in enumerate(rest):
        if other != name:
            continue
        left, loops = _identified(rest[:j] + rest[j + 1 :], slots, partners)
        for more, ways in _closed(_canonical(left)).items():
            out[_times(loops, more)] += ways
    return out


def _identified(
    factors: Sequence[Factor], slots: Sequence[Index], partners: Sequence[Index]
) -> tuple[tuple[Factor, ...], Loops]:
    """Pair two factors: their slots become one index each, and an index that nothing else uses is a loop."""
    classes: dict[Index, Index] = {}

    def root(i: Index) -> Index:
        while i in classes:
            i = classes[i]
        return i

    for a, b in zip(slots, partners, strict=True):
        if root(a) != root(b):
            classes[root(a)] = root(b)
    left = tuple((name, tuple(root(i) for i in own)) for name, own in factors)
    used = {i for _, own in left for i in own}
    free = {root(i) for i in (*slots, *partners)} - used
    return left, tuple(sorted(Counter(dim for dim, _ in free).items()))


def _times(a: Loops, b: Loops) -> Loops:
    return tuple(sorted((Counter(dict(a)) + Counter(dict(b))).items()))


def _canonical(factors: Iterable[Factor]) -> tuple[Factor, ...]:
    """Indices numbered by first use, so that a network met again is recognized (not always, which costs time only)."""
    numbers: dict[Index, Index] = {}
    return tuple(
        (name, tuple(numbers.setdefault(i, (i[0], len(numbers))) for i in slots))
        for name, slots in sorted(factors, key=lambda f: f[0])
    )


def second_moment(tensor: Tensor, sizes: Mapping[str, Scale] | None = None) -> dict[Scale, int]:
    """The mean square of a result's entries, exactly: Θ monomial in the dims → its coefficient (zeros left out).

    ``sizes``: standard deviations of the entries of leaves, 1 unless given.
    """
    terms = polynomial(tensor)
    out: Counter[Scale] = Counter()
    for c, a in terms:
        for d, b in terms:
            square_of = (a * b).sum(label for label, _ in a.axes)
            weight = Scale.one()
            for label, _ in a.axes:
                weight = weight / Scale.of(dim_of(label))
            for name, _ in square_of.factors:
                weight = weight * (sizes or {}).get(name, Scale.one())
            used = {i for _, slots in square_of.factors for i in slots}
            for i in square_of.summed:
                weight = weight if i in used else weight * Scale.of(i[0])
            for loops, ways in _closed(_canonical(square_of.factors)).items():
                out[weight * Scale({dim: Fraction(n) for dim, n in loops})] += c * d * ways
    return {s: c for s, c in out.items() if c}


def undominated(scales: Iterable[Scale]) -> set[Scale]:
    """The monomials that no other one bounds however the dims grow."""
    found = set(scales)
    return {s for s in found if not any(s < t for t in found)}


def exact(tensor: Tensor, sizes: Mapping[str, Scale] | None = None) -> set[Scale]:
    """The leading root-mean-square sizes of a result; none if it is exactly zero."""
    return {s ** Fraction(1, 2) for s in undominated(second_moment(tensor, sizes))}


def pairings(tensor: Tensor) -> int:
    """How many pairings the second moment has, before any is recognized as met before: what it costs at most."""
    terms = [Counter(name for name, _ in a.factors) for _, a in polynomial(tensor)]
    cost = 0
    for a in terms:
        for b in terms:
            ways = 1
            for n in (a + b).values():
                ways = 0 if n % 2 else ways
                for k in range(n - 1, 0, -2):
                    ways *= k
            cost += ways
    return cost


# ---------------------------------------------------------------------- comparing


Path = Mapping[str, int]


def paths(dims: Sequence[str], most: int = 6) -> Iterator[Path]:
    """Directions in which the dims grow as powers of one width (rate 0: a dim stands still, the limit of such paths)."""
    top = most if len(dims) < 3 else 4
    for rates in product(range(top + 1), repeat=len(dims)):
        if gcd(*rates) == 1:
            yield dict(zip(dims, rates, strict=True))


def along(sizes: Iterable[Scale], path: Path) -> Fraction | float:
    """The exponent of the largest size on a path; −∞ of nothing, which is exactly zero."""
    return max((sum((s.power(dim) * rate for dim, rate in path.items()), Fraction(0)) for s in sizes), default=-inf)


def differing(found: set[Scale], right: set[Scale], dims: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The paths on which sizes that were found are below the right ones, and those on which they are above."""
    pairs = [(path, along(found, path), along(right, path)) for path in paths(dims)]
    return [path for path, f, r in pairs if f < r], [path for path, f, r in pairs if f > r]


# ---------------------------------------------------------------------- numbers


def drawn(tensor: Tensor, widths: Mapping[str, int], seeds: int, seed: int = 0) -> np.ndarray:
    """The result at given widths with standard normal leaves: an array (seeds, *axes)."""
    rng, program, values = np.random.default_rng(seed), tensor.program, dict[int, np.ndarray]()
    live = program.live([tensor.index])
    labels = {label for op in program.ops for label in op.axes}
    letter = {label: chr(ord("b") + i) for i, label in enumerate(sorted(labels))}

    def einsum(inputs: Sequence[int], out: Sequence[str]) -> np.ndarray:
        sides = ",".join("a" + "".join(letter[label] for label in program.ops[j].axes) for j in inputs)
        return np.einsum(f"{sides}->a{''.join(letter[label] for label in out)}", *(values[j] for j in inputs))

    for i, op in enumerate(program.ops):
        shape = tuple(widths[dim_of(label)] for label in op.axes)
        if not live[i]:
            continue
        if op.rule in ("weight", "input"):
            values[i] = rng.standard_normal((seeds, *shape))
        elif op.rule in POLYNOMIALS:
            values[i] = sum(values[op.inputs[0]] ** power for power in POLYNOMIALS[op.rule])
        elif op.rule == "negative":
            values[i] = -values[op.inputs[0]]
        elif op.rule == "rename":
            values[i] = values[op.inputs[0]]
        elif op.rule == "add":
            values[i] = np.zeros((seeds, *shape))
            for j in op.inputs:
                values[i] += _spread(values[j], program.ops[j].axes, op.axes)
        else:
            values[i] = einsum(op.inputs, op.axes)
    return values[tensor.index]


def _spread(value: np.ndarray, own: Sequence[str], out: Sequence[str]) -> np.ndarray:
    order = [label for label in out if label in own]
    value = value.transpose(0, *(1 + own.index(label) for label in order))
    return value[(slice(None), *(slice(None) if label in own else None for label in out))]
