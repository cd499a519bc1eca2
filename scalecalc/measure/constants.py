r"""The free constants of a derived size, and which of their values the samples admit.

An exponent is a claim, a constant is not: a log factor is (r + log N)^b with any r, several terms and corrections add as
size² = Σ c_i² θ_i² with any c_i, and a sum that obeys the law of large numbers has a central-limit part N^(−1/2) below
it.  :class:`Size` is log size as a function of such constants ν; :func:`admitted` returns points all over the set of ν
that a score test (a t test of the residuals against ∂f/∂ν) does not reject.  No quadratic approximation holds for that
set: it may be a thin curved sheet from one bound to another (three constants and one residual), so its extremes are
searched for by steps off its outermost points, pulled back by Gauss-Newton.

To debug an interval that misses: is the true ν within its bounds, is it kept by the score test, is it near a point found?
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from scalecalc.scale import Scale

Array = NDArray[np.float64]
CONSTANT = 10.0  # the largest constant beside a log, in units of the log's coefficient
_ROUNDS, _STEPS = 5, (0.5, 0.2, 0.07, 0.02, 0.005)  # of the search for the extremes
_DAMPING = 1e-9  # against a singular Gauss-Newton step, relative to the squared slopes


class Means(Protocol):
    """What is known of the cells: means of logs (K,), their variances (K,), and intervals of contrasts of them."""

    @property
    def mean(self) -> Array: ...
    @property
    def variance(self) -> Array: ...
    def interval(self, contrasts: Array, alpha: float) -> tuple[Array, Array]: ...


class Size:
    """log size at the cells as a function of ν ∈ [0, 1]^free: constants beside logs, shares of terms, corrections.

    ``generic``: corrections of ± N^(−p) relative to size², at the centre at most as large as the size itself, each as the
    position of a dim in ``dims`` and p; ν = ½ is none.
    """

    def __init__(
        self, terms: Sequence[Scale], corrections: Sequence[Scale], dims: Sequence[str], x: Array,
        generic: Sequence[tuple[int, float]] = (),
    ):  # fmt: skip
        here = {tuple((s.power(d), s.log_power(d)) for d in dims): s for s in reversed([*terms, *corrections])}
        self.terms = [s for s in here.values() if s in terms][::-1]
        every = self.terms + [s for s in here.values() if s not in terms][::-1]
        self.powers = np.array([[float(s.power(d)) for d in dims] for s in every]) @ x.T
        self.log_dims = [j for j, d in enumerate(dims) if any(s.log_power(d) for s in every)]
        self.log_powers = np.array([[float(s.log_power(dims[j])) for j in self.log_dims] for s in every])
        self.x = x[:, self.log_dims].T
        powers = np.array([p for _, p in generic])[:, None]
        self.falling = np.exp((x - x.mean(0))[:, [j for j, _ in generic]].T * -powers)  # relative to the centre
        self.free = len(self.log_dims) + len(every) - 1 + len(self.falling)

    def _sizes(self, nu: Array) -> tuple[Array, Array]:
        """(G, free) to log of each term (G, terms, K), less its mean over the cells, and what its logs are of (G, J, K)."""
        if not self.log_dims:
            size = np.broadcast_to(self.powers - self.powers.mean(-1, keepdims=True), (len(nu), *self.powers.shape))
            return size, np.empty((len(nu), 0, self.powers.shape[1]))
        shifted = self.x - self.x.min(1)[:, None] + self._shifts(nu)[..., None]
        size = self.powers + np.einsum("tj,gjk->gtk", self.log_powers, np.log(shifted))
        return size - size.mean(-1, keepdims=True), shifted

    @property
    def _low(self) -> Array:
        return np.maximum(self.x.min(1) / 2, 0.25)

    def _shifts(self, nu: Array) -> Array:
        """The constants beside the logs, least log included: (G, J)."""
        return self._low * ((self.x.min(1) + CONSTANT) / self._low) ** nu[:, : len(self.log_dims)]

    @property
    def _sticks(self) -> slice:
        """Which constants break the stick of size² into the terms' shares: a part of what is left, each."""
        return slice(len(self.log_dims), len(self.log_dims) + len(self.terms) - 1)

    @property
    def _generic(self) -> slice:
        return slice(self.free - len(self.falling), self.free)

    def _weights(self, nu: Array) -> Array:
        """(G, free) to each term's part of size² at the centre: (G, terms)."""
        sticks = nu[:, self._sticks]
        left = np.cumprod(np.concatenate([np.ones((len(nu), 1)), 1 - sticks], 1), 1)
        below = nu[:, self._sticks.stop : self._generic.start]
        return np.concatenate([left[:, :-1] * sticks, left[:, -1:], below], 1)

    def parts(self, nu: Array) -> Array:
        """(G, free) to log of each term's part of size² (G, terms, K)."""
        with np.errstate(divide="ignore"):
            return np.log(self._weights(nu))[..., None] + 2 * self._sizes(nu)[0]

    def _amounts(self, nu: Array) -> Array:
        return 2 * nu[:, self._generic, None] - 1

    def __call__(self, nu: Array) -> Array:
        """(G, free) to log size (G, K), up to a constant."""
        size = np.log(np.einsum("gt,gtk->gk", self._weights(nu), np.exp(2 * self._sizes(nu)[0]))) / 2
        amounts = self._amounts(nu)
        return size + (np.sign(amounts) * np.log1p(np.abs(amounts) * self.falling)).sum(1) / 2

    def slopes(self, nu: Array) -> Array:
        """∂f/∂ν, (G, free) to (G, free, K)."""
        size, shifted = self._sizes(nu)
        weights, squares = self._weights(nu), np.exp(2 * size)
        whole = np.einsum("gt,gtk->gk", weights, squares)
        out = np.empty((*nu.shape, squares.shape[-1]))
        if self.log_dims:
            moved = (self._shifts(nu) * np.log((self.x.min(1) + CONSTANT) / self._low))[..., None] / shifted
            moved = self.log_powers.T[..., None] * moved[:, :, None]  # (G, J, terms, K)
            moved -= moved.mean(-1, keepdims=True)
            out[:, : len(self.log_dims)] = np.einsum("gt,gtk,gjtk->gjk", weights, squares, moved) / whole[:, None]
        sticks, last = nu[:, self._sticks], len(self.terms)
        for j in range(last - 1):  # the j-th takes its part of what those before it left; the others share the rest
            others = 1 - sticks
            others[:, j] = 1
            left = np.cumprod(np.concatenate([np.ones((len(nu), 1)), others], 1), 1)
            shares = left * np.concatenate([sticks, np.ones((len(nu), 1))], 1)
            gained = left[:, j, None] * squares[:, j]
            lost = np.einsum("gt,gtk->gk", shares[:, j + 1 :], squares[:, j + 1 : last])
            out[:, self._sticks.start + j] = (gained - lost) / whole / 2
        out[:, self._sticks.stop : self._generic.start] = squares[:, last:] / whole[:, None] / 2
        out[:, self._generic] = self.falling / (1 + np.abs(self._amounts(nu)) * self.falling)
        return out

    def grid(self) -> Array:
        """Points over the whole cube, its faces included."""
        if self.free > 3:
            return np.random.default_rng(0).choice([0, 0, 0.02, 0.1, 0.3, 0.5, 0.8, 1], (1500, self.free))
        side = np.linspace(0, 1, (0, 65, 21, 9)[self.free])
        return np.array(list(itertools.product(side, repeat=self.free)))


def admitted(size: Size, means: Means, design: Array, aims: Array, alpha: float) -> tuple[Array, list[bool]]:
    """The constants that the cells do not reject at error ``alpha``, whatever the coefficients of ``design`` (K, p).

    Returns points (G, free), the best first, that reach the extremes of the contrasts ``aims`` (D, K); and per constant
    whether the cells would significantly like to cross its bound.  At a bound only the inward score rejects: the best
    point is always kept.
    """
    if not size.free:
        return np.empty((1, 0)), []
    rng, annihilate = np.random.default_rng(0), np.eye(len(design)) - design @ np.linalg.pinv(design)
    aim = annihilate @ means.mean
    bends = np.linalg.svd(design)[0][:, np.linalg.matrix_rank(design) :].T
    level = alpha / (size.free + len(bends))
    lowest, highest = means.interval(bends, level)

    def rejected(points: Array, level: float = level) -> tuple[Array, Array]:
        """Scores significantly below, above what they should be: (G, free), (G, free)."""
        contrasts = size.slopes(points) @ annihilate
        low, high = means.interval(contrasts.reshape(-1, len(design)), level)
        score = np.einsum("gdk,gk->gd", contrasts, size(points))
        small = np.abs(contrasts).max(-1) < 1e-9  # a constant that does nothing here
        return (score < low.reshape(score.shape)) & ~small, (score > high.reshape(score.shape)) & ~small

    def straight(points: Array) -> Array:
        along = size(points) @ bends.T
        return ((lowest <= along) & (along <= highest)).all(1)

    def kept(points: Array) -> Array:
        more, less = rejected(points)
        bad = ((more & (points < 1)) | (less & (points > 0))).any(1)
        return points[~bad & straight(points)] if fits else points[~bad]

    def pulled(points: Array) -> Array:
        """A damped Gauss-Newton step towards the least residual, as short as it can be."""
        slopes = size.slopes(points) @ annihilate
        square = np.einsum("gdk,gek->gde", slopes, slopes)
        square += (_DAMPING * np.trace(square, axis1=1, axis2=2)[:, None, None] + 1e-300) * np.eye(size.free)
        residual = np.einsum("gdk,gk->gd", slopes, aim - size(points) @ annihilate)
        return np.clip(points + np.linalg.solve(square, residual[..., None])[..., 0], 0, 1)

    grid = size.grid()
    start = grid[np.linalg.norm((means.mean - size(grid)) @ annihilate, axis=1).argmin()]
    best = optimize.least_squares(
        lambda nu: annihilate @ (means.mean - size(nu[None])[0]),
        np.clip(start, 1e-3, 1 - 1e-3),
        lambda nu: -annihilate @ size.slopes(nu[None])[0].T,
        bounds=(0, 1),
        method="dogbox",
        **dict.fromkeys(("xtol", "ftol", "gtol"), 1e-14),
    ).x[None]
    fits = bool(straight(best)[0])  # else no constant does; then keep those around the best
    slopes = size.slopes(best)[0]
    turn = np.linalg.pinv(annihilate @ slopes.T)
    value, axes = np.linalg.eigh((turn * means.variance) @ turn.T)
    root = axes * np.sqrt(np.maximum(value, 0))
    ways = rng.standard_normal((200 if size.free > 1 else 1, size.free))
    ways = np.concatenate([ways, aims @ slopes.T @ root])
    ways = ways / np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-300) @ root.T
    reach = np.linspace(-2.5, 2.5, 51)[:, None, None] * -special.ndtri(alpha / 2)
    found = np.concatenate([best, kept(np.concatenate([grid, np.clip(best + (reach * ways).reshape(-1, size.free), 0, 1)]))])
    for _ in range(_ROUNDS if size.free > 1 else 0):
        ends = size(found) @ aims.T
        outermost = found[np.unique(np.concatenate([ends.argmin(0), ends.argmax(0), [0]]))]
        steps = rng.standard_normal((12, 1, size.free)) * np.array(_STEPS)[:, None, None, None]
        near = np.clip(outermost + steps, 0, 1).reshape(-1, size.free)
        home = pulled(pulled(near))
        found = np.concatenate([found, *(kept(near + part * (home - near)) for part in (0.0, 0.5, 0.8, 1.0))])
    more, less = rejected(best, alpha / size.free)
    return found, [bool(out) for out in (more[0] & (best[0] > 0.999)) | (less[0] & (best[0] < 0.001))]
