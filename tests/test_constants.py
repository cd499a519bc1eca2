"""The set of admitted constants is searched to its ends: what it misses, an interval misses."""

import math

import numpy as np
import pytest

from scalecalc.measure import constants
from scalecalc.measure.constants import Size, admitted
from scalecalc.measure.slopes import Cell, fit
from scalecalc.scale import Scale

U, X = Scale.of("N_u", "1/2"), Scale.of("N_x", "1/2")
SMALLER = [Scale.one(), Scale.of("N_u", "-1/2")]
CELLS = [(32, 16), (32, 128), (32, 1024), (64, 16)]


def draw(seed, seeds=1000, size=lambda u, x: math.sqrt(6.75 * u + 41.5 * x)):
    rng = np.random.default_rng(seed)
    return [Cell({"N_u": u, "N_x": x}, math.log(size(u, x)) + 0.1 * rng.standard_normal(seeds)) for u, x in CELLS]


def missed(seeds=6):
    """Four cells, three coefficients, three constants: any curve fits, and the true constants are at two bounds."""
    fits = [fit(draw(seed), [U, X], 1e-3, corrections=SMALLER) for seed in range(seeds)]
    return sum(any(not e.low <= 0 <= e.high for e in found.excess.values()) for found in fits)


def test_a_thin_sheet_of_constants_is_searched_to_its_ends(monkeypatch):
    assert missed() == 0
    monkeypatch.setattr(constants, "_ROUNDS", 0)  # the points of the grid and rays from the best point alone
    assert missed() > 0


def test_no_random_point_that_is_admitted_lies_beyond_the_ends():
    x = np.log([[float(u), float(v)] for u, v in CELLS])
    design = np.column_stack([np.ones(len(x)), x])
    aims = np.linalg.pinv(design)[1:]
    size = Size([U, X], SMALLER, ["N_u", "N_x"], x)

    class Exact:
        mean = np.array([math.log(6.75 * u + 41.5 * v) / 2 for u, v in CELLS])
        variance = np.full(4, 1e-4)

        def interval(self, contrasts, alpha):
            middle, half = contrasts @ self.mean, 4 * np.sqrt((contrasts**2) @ self.variance)
            return middle - half, middle + half

    found, _ = admitted(size, Exact(), design, aims, 1e-3)
    reach = size(found) @ aims.T
    many = np.random.default_rng(1).uniform(size=(60000, size.free))
    annihilate = np.eye(4) - design @ np.linalg.pinv(design)
    contrasts = size.slopes(many) @ annihilate
    low, high = Exact().interval(contrasts, 0.0)
    score = np.einsum("gdk,gk->gd", contrasts, size(many))
    inside = size(many[((low <= score) & (score <= high)).all(1)]) @ aims.T
    assert len(inside) > 100
    assert (inside.min(0) > reach.min(0) - 0.02).all()
    assert (inside.max(0) < reach.max(0) + 0.02).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_generic_correction_is_bounded_and_has_either_sign(sign):
    x = np.log([[16.0], [32.0], [64.0], [128.0]])
    size = Size([Scale.one()], [], ["N"], x, generic=[(0, 1.0)])
    flat, most = size(np.array([[0.5], [0.5 + sign / 2]]))
    assert np.allclose(flat, 0)
    slope = (most[2] - most[1]) / math.log(2)
    assert slope * -sign == pytest.approx(0.25, abs=0.01)


def test_a_generic_correction_excuses_a_quarter_and_not_a_half():
    rng = np.random.default_rng(3)

    def excess(power):
        cells = [Cell({"N": n}, power * math.log(n) + 0.1 * rng.standard_normal(1000)) for n in (32, 64)]
        return fit(cells, [Scale.one()], 1e-6, generic=True).excess["N"]

    assert excess(0.2).low < 0 < excess(0.2).high
    assert excess(0.5).low > 0.15
    assert excess(-0.5).high < -0.15


def test_three_widths_tell_a_correction_from_a_power():
    rng = np.random.default_rng(4)
    cells = [Cell({"N": n}, 0.2 * math.log(n) + 0.02 * rng.standard_normal(4000)) for n in (16, 64, 256)]
    assert fit(cells, [Scale.one()], 1e-6, generic=True).excess["N"].low > 0.1


def test_slopes_are_differences():
    x = np.log([[float(u), float(v)] for u, v in CELLS])
    size = Size([U * Scale.log("N_x"), X], SMALLER, ["N_u", "N_x"], x, [(0, 1.0)])
    nu, step = np.random.default_rng(0).uniform(0.05, 0.95, (50, size.free)), 1e-5 * np.eye(size.free)
    for j in range(size.free):
        expected = (size(nu + step[j]) - size(nu - step[j])) / 2e-5
        np.testing.assert_allclose(size.slopes(nu)[:, j], expected, atol=1e-7)
