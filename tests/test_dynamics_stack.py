"""Layers in a row: the flow against the derived one where poles are equal, and against autograd where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from scalecalc.dynamics import spectra, stack, synthetic
from scalecalc.dynamics.settings import ETA, SETTINGS, SIGMA, TAU, W, derive_setting
from scalecalc.errors import InputError

POLES = ((0.6, 0.2), (-0.4, 0.5), (0.3, 0.7))


def layers(size: float) -> list[stack.Layer]:
    random = np.random.default_rng(3)
    return [stack.Layer(np.array(a), *(size + 0.1 * random.standard_normal((2, 2)))) for a in POLES]


def test_two_layers_of_one_pole_follow_what_is_derived() -> None:
    from scipy.integrate import solve_ivp

    found = spectra.spectra(synthetic.impulse(256, 0.7))
    n, v = 4, np.full(4, 0.3)
    time = np.linspace(0, 3, 40)
    path = stack.integrate(found, [stack.Layer(np.full(n, 0.5), v, v)] * 2, time)
    gain = (path.b[0] * path.c[0]).sum(1) * (path.b[1] * path.c[1]).sum(1)
    derived = derive_setting(SETTINGS["untied_balanced_two"]).flow
    values = {SIGMA: found.sigma(0.5, 2)[0, 0], ETA: found.eta(0.5, 2)[0, 0], TAU: 1, sp.Symbol("N", positive=True): n}
    speed = sp.lambdify(W, derived.subs(values))
    expected = solve_ivp(lambda _, w: speed(w), (0, 3), [gain[0]], t_eval=time, rtol=1e-9, atol=1e-12).y[0]
    assert gain[-1] > 2 * gain[0]
    assert np.allclose(gain, expected, rtol=1e-5)


def test_three_layers_of_different_poles_against_autograd_in_time() -> None:
    import torch

    data = synthetic.impulse(64, 0.6, 2.0)
    found, begun = spectra.spectra(data), layers(0.6)
    u, y = (torch.tensor(x[0, :, 0]) for x in (data.inputs, data.outputs))

    def loss(weights: list[torch.Tensor]) -> torch.Tensor:
        x = u
        for i, a in enumerate(torch.tensor(POLES, dtype=torch.float64)):
            h, out = torch.zeros(2, dtype=torch.float64), []
            for value in x:
                h = a * h + weights[2 * i] * value
                out.append(weights[2 * i + 1] @ h)
            x = torch.stack(out)
        return ((y - x) ** 2).sum() / 2 / len(u)

    end, errors = 1.0, []
    exact = stack.integrate(found, begun, np.array([0, end]))
    for steps in (60, 120):
        weights = [torch.tensor(x, requires_grad=True) for layer in begun for x in (layer.b, layer.c)]
        for _ in range(steps):
            slopes = torch.autograd.grad(loss(weights), weights)
            with torch.no_grad():
                for w, slope in zip(weights, slopes, strict=True):
                    w -= end / steps * slope
        got = np.concatenate([w.detach().numpy() for w in weights])
        want = np.concatenate([x[-1] for pair in zip(exact.b, exact.c, strict=True) for x in pair])
        errors.append(np.abs(got - want).max() / np.abs(want).max())
    assert exact.loss[1] < exact.loss[0] / 2  # it has learned
    assert errors[1] < 0.01
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.25)  # first order in the step


def test_what_is_conserved() -> None:
    found = spectra.spectra(synthetic.impulse(128))
    path = stack.integrate(found, layers(0.6), np.linspace(0, 2, 20))
    assert path.loss[-1] < path.loss[0]
    for b, c in zip(path.b, path.c, strict=True):
        assert np.allclose(b**2 - c**2, (b**2 - c**2)[0], atol=1e-7)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "one layer at least"),
        ([stack.Layer(np.ones(2), np.ones(2), np.ones(2))], "layer 1: its poles must lie within"),
        ([stack.Layer(np.zeros(2), np.ones(3), np.ones(2))], "layer 1: a, b and c must be vectors of one length"),
    ],
)
def test_stacks_that_are_none(bad: list[stack.Layer], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stack.integrate(spectra.spectra(synthetic.impulse(64)), bad, np.array([0.0, 1.0]))
