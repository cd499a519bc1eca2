"""A pre-norm transformer block between an embedding and a readout."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import sympy as sp

from scalecalc.asymptotics import N, n
from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.elementwise import cos, negative, sin
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import layernorm, rmsnorm
from scalecalc.rules.reduction import dot, rename
from scalecalc.rules.softmax import softmax
from scalecalc.rules.view import padded, part, view
from scalecalc.scale import Scale

BRANCH = "branch"  # the role of a weight that ends one of many branches
TIMES, HEADS, WIDTH, SHARING = 4, 2, 16, 2
CAUSAL = tuple(tuple(s <= t for s in range(TIMES)) for t in range(TIMES))
ANGLES = sp.Integer(10000) ** (-n / N)  # by which a pair of features turns in one step of time
FIXED = {"batch": 4, "t": TIMES, "s": TIMES, "in": 16, "out": 8}
ALLOWED = {
    "scale": ("1/d", "1/sqrt(d)"), "growing": ("width", "heads"), "norm": ("rms", "layer"), "kv": ("own", "grouped", "one"),
}  # fmt: skip


@architecture(
    "transformer",
    "Vaswani et al. 2017, arXiv 1706.03762; pre-norm: Xiong et al. 2020, arXiv 2002.04745",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [64, 128, 256, 512]},
)
def transformer(
    scale: str = "1/d",
    growing: str = "width",
    norm: str = "rms",
    qk_norm: bool = False,
    glu: bool = False,
    kv: str = "own",
    rotary: bool = False,
    activation: str = "gelu",
) -> Program:
    """Pre-norm transformer block of width N: causal attention and a feed-forward layer, each behind a norm, on a residual.

    Its table is mup's where each head grows wider, and then only with logits of 1/d: q and k align with each other once they
    have learned, so that their product is a sum of d terms of one sign.  What differs from the habit is a head of fixed
    width, where heads grow in number: 1/√d and 1/d are the same table there.  Watch the logits initially: with 1/d they
    vanish, and with them the gradients of q and k.

    Options:

    - ``scale``: of the logits, ``1/d`` (muP) or ``1/sqrt(d)``.
    - ``growing``: ``width`` of each of 2 heads, or the number of ``heads``, each 16 wide.
    - ``norm``: ``rms`` or ``layer``.
    - ``qk_norm``: q and k are divided by their root-mean-square (Henry et al. 2020, arXiv 2010.04245).
    - ``glu``: the feed-forward layer is gated (Shazeer 2020, arXiv 2002.05202).
    - ``kv``: every head has keys and values of its ``own``; or they are ``grouped``, two heads to one of them (Ainslie et al.
      2023, arXiv 2305.13245); or there is ``one`` for all heads (Shazeer 2019, arXiv 1911.02150).
    - ``rotary``: q and k are turned by angles that grow with time (Su et al. 2021, arXiv 2104.09864).
    - ``activation``: of the feed-forward layer, or of its gate.
    """
    p = Program("transformer", dims=("N",), fixed=FIXED.copy())
    block = Block(p, *heads(p, growing, kv), scale, norm, qk_norm, glu, kv, rotary, activation)
    x = p.input("x", "batch t in")
    u = p.feature("u", matmul(p.weight("W_in", "N in"), x))
    u = p.feature("u1", u + block.attention(u))
    u = p.feature("u2", u + block.feedforward(u))
    f = p.feature("f", matmul(p.weight("W_out", "out N"), block.normed(u)))
    p.end(f)
    return p


@dataclass(frozen=True)
class Block:
    """What a transformer's block adds to u (batch, t, N), in two parts, each behind a norm; options as those of the models.

    Args:
        head, d: the axes of the heads, those that share keys counted once, and of what each is wide (:func:`heads`).
        blocks: the axis that counts the blocks, if there are many with weights of their own.
    """

    p: Program
    head: str
    d: str
    scale: str = "1/d"
    norm: str = "rms"
    qk_norm: bool = False
    glu: bool = False
    kv: str = "own"
    rotary: bool = False
    activation: str = "gelu"
    blocks: str = ""

    def __post_init__(self) -> None:
        for name, value in (("scale", self.scale), ("norm", self.norm), ("kv", self.kv)):
            check(name, value)

    def weight(self, name: str, axes: str, role: str = "") -> Tensor:
        return self.p.weight(name, f"{self.blocks} {axes}", role, stacked=self.blocks)

    def normed(self, u: Tensor) -> Tensor:
        return (layernorm if self.norm == "layer" else rmsnorm)(u, "N")

    def attention(self, u: Tensor) -> Tensor:
        p, d, a = self.p, self.d, self.normed(u)
        own, theirs = f"{self.head} share" if self.kv == "grouped" else self.head, "" if self.kv == "one" else self.head
        q, k = (matmul(self.weight(f"W_{name}", f"{of} {d} N"), a) for name, of in (("q", own), ("k", theirs)))
        v = p.feature("v", matmul(self.weight("W_v", f"{theirs} {d} N"), rename(a, {"t": "s"})))
        if self.qk_norm:
            q, k = rmsnorm(q, d), rmsnorm(k, d)
        q, k = p.feature("q", q), p.feature("k", rename(k, {"t": "s"}))
        logits = dot(*_turned(q, k, d)) if self.rotary else dot(q, k, d)
        logits = p.feature("logits", logits * _constant(p, d, Fraction(-1) if self.scale == "1/d" else Fraction(-1, 2)))
        o = p.feature("o", dot(softmax(logits, "s", keep=CAUSAL, along=("t", "s")), v, "s"))
        inner = " ".join(sorted((*own.split(), d), key=p.grows))  # what grows comes last, as in all that a matrix reads
        return rename(dot(self.weight("W_o", f"N' {inner}", BRANCH if self.blocks else ""), o, inner), {"N'": "N"})

    def feedforward(self, u: Tensor) -> Tensor:
        a = self.normed(u)
        z = function(self.activation)(self.p.feature("z", matmul(self.weight("W_1", "N' N"), a)))
        if self.glu:
            z = z * matmul(self.weight("W_3", "N' N"), a)
        return matmul(self.weight("W_2", "N N'", BRANCH if self.blocks else ""), z)


def check(name: str, value: str) -> None:
    """Is this a value that an option may have?

    Raises:
        InputError: it is not.
    """
    if value not in ALLOWED[name]:
        raise InputError(f"transformer has no {name}={value!r}; choose {' or '.join(map(repr, ALLOWED[name]))}.")


def heads(p: Program, growing: str, kv: str = "own") -> tuple[str, str]:
    """The axes of the heads, those that share keys counted once, and of what each is wide."""
    check("growing", growing)
    check("kv", kv)
    size, shared = HEADS if growing == "width" else WIDTH, SHARING if kv == "grouped" else 1
    p.multiples["N''"] = Fraction(1, size * shared)
    p.fixed |= {"head" if growing == "width" else "d": size, "share": shared}
    return ("head", "N''") if growing == "width" else ("N''", "d")


def _constant(p: Program, d: str, power: Fraction) -> Tensor:
    """A power of a head's width."""
    if not p.grows(d):
        return p.index("scale", "", sp.Integer(WIDTH) ** sp.Rational(power))
    return p.index("scale", "", sp.Rational(p.multiples[d]) ** sp.Rational(power), scale=Scale.of("N", power))


def _turned(q: Tensor, k: Tensor, d: str) -> tuple[Tensor, Tensor, str]:
    """q and k with both halves of every head's features turned into each other by angles that grow with time, and the axes
    that these features lie along."""
    p = q.program
    pair = "N'''" if p.grows(d) else "pair"
    p.multiples["N'''"] = p.multiples["N''"] / 2
    p.fixed |= {"half": 2, "pair": WIDTH // 2}
    angles = p.index("angles", pair, ANGLES if p.grows(d) else ANGLES.subs(N, WIDTH // 2))

    def turned(x: Tensor, time: str) -> Tensor:
        angle = p.table(f"times {time}", time, tuple(range(TIMES))) * angles
        c, s = cos(angle), sin(angle)
        x = view(x, (d,), ("half", pair))
        first, second = (part(x, "half", "", i, i + 1) for i in range(2))
        halves = (first * c + negative(second * s), first * s + second * c)
        one, other = (padded(half, "", "half", i, ("half", *half.axes)) for i, half in enumerate(halves))
        return one + other

    return turned(q, "t"), turned(k, "s"), f"half {pair}"
