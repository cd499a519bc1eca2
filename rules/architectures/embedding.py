"""Token embedding and language head, tied or not."""

from __future__ import annotations

import sympy as sp

from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.architectures.residual import normalised
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul
from scalecalc.rules.reduction import dot
from scalecalc.rules.token import token
from scalecalc.scale import Scale

POWERS = {"1/N": -1, "1/sqrt(N)": "-1/2", "1": 0}


@architecture(
    "embedding",
    "Press & Wolf 2017, arXiv 1608.05859 (tied); multiplier: Yang et al. 2022, arXiv 2203.03466",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [64, 128, 256, 512, 1024]},
)
def embedding(tied: bool = True, scale: str = "1/N", norm: str = "none", activation: str = "gelu") -> Program:
    """Language model of width N between a token embedding and a head: u = E[token], h = u + W φ(u), logits = head · h.

    Tied, the head is E itself behind a multiplier, and with 1/N it is mup's table: one matrix, initialised at one and with
    Adam's rate for an embedding, serves both ends.  What differs from the habit is the logits initially: those of E against
    itself are of order one where an untied head's are N^(-1/2), since E pairs with its own rows.  Watch the multiplier: with
    1/√N, or none, the logit of the token that was read is N^(1/2), or N.

    With ``grow=vocabulary`` (and ``--loss cross_entropy``) the number of tokens grows, too.  The table stays what it is: a
    token reads one row, the gradients of all others are exactly zero, and the loss sees one logit.  Watch that logit: updates
    upstream of a head of N^(-1/2) move it by N^(1/2), which a root-mean-square over all hides by vocabulary^(-1/2).

    Options: ``tied``; ``scale`` of the tied head (``1/N``, ``1/sqrt(N)`` or ``1``); ``norm`` before the head (``rms``,
    ``layer``, ``group``, ``none``); ``activation``.  The tokens are integers, drawn uniformly (from 16, unless the
    vocabulary grows).
    """
    if scale not in POWERS:
        raise InputError(f"embedding has no scale {scale!r}; choose {', '.join(POWERS)}.")
    p = Program("embedding", dims=("N",), fixed={"batch": 4, "vocabulary": 16})
    tokens = token(p.input("x", "batch vocabulary"), "vocabulary")
    # A token reads one column alone, so that the table is as many vectors as there are tokens, and no sum over them.
    table = p.weight("E", "N vocabulary", stacked="vocabulary" if p.grows("vocabulary") else "")
    u = p.feature("u", matmul(table, tokens))
    h = p.feature("h", u + matmul(p.weight("W", "N N'"), function(activation)(u)))
    f = p.feature("f", _head(p, table if tied else None, normalised(p, norm, h), Scale.of("N", POWERS[scale])))
    p.end(f)
    return p


def _head(p: Program, table: Tensor | None, h: Tensor, scale: Scale) -> Tensor:
    if table is None:
        return matmul(p.weight("W_out", "vocabulary N"), h)
    return dot(table, h, "N") * p.index("scale", "", sp.Integer(1), scale=scale)
