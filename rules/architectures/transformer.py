"""A pre-norm transformer block between an embedding and a readout."""

from __future__ import annotations

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

TIMES, HEADS, WIDTH, SHARING = 4, 2, 16, 2
CAUSAL = tuple(tuple(s <= t for s in range(TIMES)) for t in range(TIMES))
ANGLES = sp.Integer(10000) ** (-n / N)  # by which a pair of features turns in one step of time
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
    for name, value in (("scale", scale), ("growing", growing), ("norm", norm), ("kv", kv)):
        if value not in ALLOWED[name]:
            raise InputError(f"transformer has no {name}={value!r}; choose {' or '.join(map(repr, ALLOWED[name]))}.")
    p = Program("transformer", dims=("N",), fixed={"batch": 4, "t": TIMES, "s": TIMES, "in": 16, "out": 8})
    head, d = _heads(p, growing, kv)
    normed = layernorm if norm == "layer" else rmsnorm
    x = p.input("x", "batch t in")
    u = p.feature("u", matmul(p.weight("W_in", "N in"), x))
    a = normed(u, "N")
    own, theirs = f"{head} share" if kv == "grouped" else head, "" if kv == "one" else head
    q, k = (matmul(p.weight(f"W_{name}", f"{of} {d} N"), a) for name, of in (("q", own), ("k", theirs)))
    v = p.feature("v", matmul(p.weight("W_v", f"{theirs} {d} N"), rename(a, {"t": "s"})))
    if qk_norm:
        q, k = rmsnorm(q, d), rmsnorm(k, d)
    q, k = p.feature("q", q), p.feature("k", rename(k, {"t": "s"}))
    logits = dot(*_turned(q, k, d)) if rotary else dot(q, k, d)
    logits = p.feature("logits", logits * _constant(p, d, Fraction(-1) if scale == "1/d" else Fraction(-1, 2)))
    o = p.feature("o", dot(softmax(logits, "s", keep=CAUSAL, along=("t", "s")), v, "s"))
    u = p.feature("u1", u + rename(_project(p, o, own, d), {"N'": "N"}))
    a = normed(u, "N")
    z = function(activation)(p.feature("z", matmul(p.weight("W_1", "N' N"), a)))
    if glu:
        z = z * matmul(p.weight("W_3", "N' N"), a)
    u = p.feature("u2", u + matmul(p.weight("W_2", "N N'"), z))
    f = p.feature("f", matmul(p.weight("W_out", "out N"), normed(u, "N")))
    p.end(f)
    return p


def _heads(p: Program, growing: str, kv: str) -> tuple[str, str]:
    """The axes of the heads, those that share keys counted once, and of what each is wide."""
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


def _project(p: Program, o: Tensor, heads: str, d: str) -> Tensor:
    """W_o o; the axis that grows is its last, as that of what a matrix reads."""
    inner = " ".join(sorted((*heads.split(), d), key=p.grows))
    return dot(p.weight("W_o", f"N' {inner}"), o, inner)
