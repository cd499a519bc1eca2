"""Gated recurrent networks on a sequence of fixed length: GRU, LSTM."""

from __future__ import annotations

import sympy as sp

from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import negative, sigmoid, tanh
from scalecalc.rules.matmul import matmul
from scalecalc.rules.view import part

TIMES = 2
FORGETS = (
    "how fast a state that goes through its own matrix and a nonlinearity at every step is forgotten, or grows, is no power "
    "of the widths but a constant of the initial gates. rglru gates a linear recurrence, whose length can grow"
)


@architecture(
    "gru",
    "Cho et al. 2014, arXiv 1406.1078, eq. 5-8",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [64, 128, 256, 512]},
)
def gru(bias: bool = True) -> Program:
    """Gated recurrent unit of width N over two steps: h_t = z h_{t−1} + (1 − z) tanh(W x + U (r h_{t−1})).

    Its table is mup's: a matrix used at several times is one symmetry, its updates are sums of a fixed number of outer
    products, and gates of order one change no exponent.  What differs from the habit is the first state, which is zero, so
    that every U learns from the second step on alone.  Watch the length: over a fixed one all is of order one, and what grows
    with the length is no matter of width.

    Options: ``bias`` (of each gate and of the candidate, zero initially).
    """
    p = _program("gru")
    h: Tensor | None = None
    weights = _Weights(p, bias)
    for t in range(TIMES):
        x = _at(p, t)
        z = sigmoid(p.feature(f"z{t + 1}", weights("z", x, h)))
        r = sigmoid(weights("r", x, h))
        n = tanh(p.feature(f"n{t + 1}", weights("h", x, None if h is None else r * h)))
        new = (_one(p) + negative(z)) * n
        h = p.feature(f"h{t + 1}", new if h is None else z * h + new)
    assert h is not None
    p.end(p.feature("f", matmul(p.weight("W_out", "out N"), h)))
    return p


@architecture(
    "lstm",
    "Hochreiter & Schmidhuber 1997; with forget gates: Gers et al. 2000",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [64, 128, 256, 512]},
)
def lstm(bias: bool = True) -> Program:
    """Long short-term memory of width N over two steps: c_t = f c_{t−1} + i tanh(…), h_t = o tanh(c_t).

    Its table is mup's, as the gated recurrent unit's is.  What differs from the habit is nothing at all: the cell adds terms
    of order one a fixed number of times, and its gates are functions of arguments of order one.  Watch the biases under SGD,
    whose rate is N, as an embedding's is.  (Deriving it takes most of a minute.)

    Options: ``bias`` (of each gate and of the candidate, zero initially).
    """
    p = _program("lstm")
    h: Tensor | None = None
    c: Tensor | None = None
    weights = _Weights(p, bias)
    for t in range(TIMES):
        x = _at(p, t)
        i, o = (sigmoid(weights(gate, x, h)) for gate in ("i", "o"))
        new = i * tanh(p.feature(f"g{t + 1}", weights("g", x, h)))
        if c is not None:
            new = sigmoid(weights("f", x, h)) * c + new
        c = p.feature(f"c{t + 1}", new)
        h = p.feature(f"h{t + 1}", o * tanh(c))
    assert h is not None
    p.end(p.feature("f", matmul(p.weight("W_out", "out N"), h)))
    return p


def _program(name: str) -> Program:
    p = Program(name, dims=("N",), fixed={"batch": 4, "time": TIMES, "in": 8, "out": 8})
    p.input("x", "batch time in")
    p.unrolled("time", FORGETS)
    return p


class _Weights:
    """W_gate x + U_gate h + b_gate: the same tensors at every time."""

    def __init__(self, p: Program, bias: bool):
        self.p, self.bias = p, bias
        self.known: dict[str, Tensor] = {}

    def _weight(self, name: str, axes: str, init: sp.Expr | None = None) -> Tensor:
        if name not in self.known:
            self.known[name] = self.p.weight(name, axes, init=init)
        return self.known[name]

    def __call__(self, gate: str, x: Tensor, h: Tensor | None) -> Tensor:
        out = matmul(self._weight(f"W_{gate}", "N in"), x)
        if h is not None:
            out = out + matmul(self._weight(f"U_{gate}", "N N'"), h)
        return out + self._weight(f"b_{gate}", "N", sp.Integer(0)) if self.bias else out


def _at(p: Program, time: int) -> Tensor:
    return part(p.tensor(p.leaves("input")["x"]), "time", "", time, time + 1)


def _one(p: Program) -> Tensor:
    known = p.leaves("index")
    return p.tensor(known["one"]) if "one" in known else p.index("one", "", sp.Integer(1))
