"""Notation, and what the lemmas take from probability and from the theory of state spaces: each stated once.

The text is LaTeX with mathematics between dollars, so that the document and the page print the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scalecalc.explain import Stage


@dataclass(frozen=True)
class Definition:
    """Something that the lemmas use, stated once; ``text`` is LaTeX with mathematics between dollars."""

    name: str
    text: str
    source: str = ""


DEFINITIONS = (
    Definition(
        "Size",
        r"$\Theta(s)$: bounded above and below by constants times $s$, with probability tending to one as the growing "
        r"widths do. The size of a tensor $x$ with $m$ entries is its root-mean-square $(\frac{1}{m}\sum_i "
        r"|x_i|^2)^{1/2}$; that of an entry is taken at small index, where entries differ along an axis (a profile "
        r"$n^{-p}$ along $n = 1, 2, \dots$).",
    ),
    Definition(
        "Spectral norm",
        r"$\|W\|_* = \max_{\|x\|_2 = 1} \|W x\|_2$. For independent centred entries of size $\sigma$ it is "
        r"$\Theta(\sigma(\sqrt{m} + \sqrt{n}))$ for $W$ of $m$ rows and $n$ columns.",
        "Yang, Simon & Bernstein 2023, arXiv 2310.17813, sec. 2; Bai & Yin 1993",
    ),
    Definition(
        "Law of large numbers",
        r"for independent $x_i$ with a finite second moment $\sum_i \mathrm{Var}(x_i)/i^2 < \infty$ implies "
        r"$\frac{1}{N}\sum_{i=1}^{N} (x_i - \mathrm{E}\,x_i) \to 0$ almost surely: a sum whose summands have a mean of one "
        r"sign is $\Theta(N)$ times one of them.",
        "Kolmogorov 1930",
    ),
    Definition(
        "Central limit theorem",
        r"for independent centred $x_i$ of variances $v_i$ with $s_N^2 = \sum_{i \le N} v_i$ and no summand that dominates "
        r"(Lindeberg's condition), $\frac{1}{s_N}\sum_{i=1}^{N} x_i$ tends to a standard normal: a sum whose summands have "
        r"independent signs is $\Theta(\sqrt{N})$ times one of them.",
        "Lindeberg 1922, Feller 1935",
    ),
    Definition(
        "Symmetry",
        r"a term is odd in $W[N, \cdot]$ if it changes sign when the row $N$ of the random matrix $W$ does, which leaves "
        r"the law of $W$ as it is. A sum over an axis is one of the central limit theorem if the summand is odd in "
        r"something with an index along that axis, else one of the law of large numbers.",
    ),
    Definition(
        "Sums of profiles",
        r"$\sum_{n=1}^{N} n^{-p}$ is $\Theta(N^{1-p})$ for $p < 1$, $\Theta(\log N)$ for $p = 1$ and $\Theta(1)$ for $p > "
        r"1$.",
        "integral test",
    ),
)
STATES = (
    Definition(
        "HiPPO transition",
        r"$\dot h = A h + B u$ with a transition matrix that keeps the projection of the past on orthogonal polynomials; "
        r"its diagonal forms have $A_n = -(n+1)$ or $-\frac{1}{2} + \mathrm{i}\pi n$ for state $n = 0, 1, \dots$. The "
        r"matrix is exact: it is not drawn at random, and its entries differ along the states.",
        "Gu, Dao, Ermon, Rudra & Ré 2020, arXiv 2008.07669; Gu, Gupta, Goel & Ré 2022, arXiv 2206.11893",
    ),
    Definition(
        "Zero-order hold",
        r"$u$ is held over a step $\Delta$: $h_t = \mathrm{e}^{\Delta A} h_{t-1} + A^{-1}(\mathrm{e}^{\Delta A} - 1) B "
        r"u_t$. Where $|\Delta A_n|$ is large the input factor is $\Theta(1/|A_n|)$. Euler's method has $1 + \Delta A$ and "
        r"$\Delta$ instead, the input factor alike for all states.",
        "Gu & Dao 2023, arXiv 2312.00752, eq. 4",
    ),
)
STATE_RULES = ("recurrence", "zoh", "euler", "bilinear", "mamba")


def definitions(steps: Sequence[Stage]) -> tuple[Definition, ...]:
    """What these steps use."""
    rules = {stage.rule for stage in steps}
    return (*DEFINITIONS, *(STATES if rules & set(STATE_RULES) else ()))
