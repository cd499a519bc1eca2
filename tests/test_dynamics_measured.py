"""Learning dynamics, measured: autograd in the time domain against what is derived in the frequency domain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scalecalc import cli, dynamics
from scalecalc.dynamics import closed, descent, experiments, spectra, synthetic
from scalecalc.dynamics.settings import SETTINGS
from scalecalc.measure.slopes import Cell
from scalecalc.scale import Scale
from scalecalc.table import Row

POLE = 0.8


@pytest.fixture(scope="module")
def white() -> tuple[spectra.Spectra, spectra.Moments]:
    data = synthetic.impulse(256, POLE)
    return spectra.spectra(data), spectra.moments(data, spectra.taps(POLE, 256))


def test_loss_and_gradients_are_those_of_the_recursion() -> None:
    data = synthetic.teacher(24, noise=0.3, count=2)
    found = spectra.moments(data, 24)
    random = np.random.default_rng(3)
    a, b, c = (torch.tensor(x, requires_grad=True) for x in random.uniform(-0.9, 0.9, (3, 4)))
    u, y = torch.as_tensor(data.inputs[..., 0]), torch.as_tensor(data.outputs[..., 0])
    state, total = torch.zeros(2, 4, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for t in range(24):
        state = a * state + b * u[:, t, None]
        total = total + ((y[:, t] - (c * state).sum(-1)) ** 2).sum() / (2 * 48)
    kernel = descent.impulse(c[None, None], (a[:, None] ** torch.arange(24.0, dtype=torch.float64))[None], b[None, :, None])
    value = descent.Loss(found)(kernel)[0]
    assert value.item() == pytest.approx(total.item(), rel=1e-12)
    for one, other in zip(torch.autograd.grad(value, [a, b, c]), torch.autograd.grad(total, [a, b, c]), strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_closed_form_against_autograd_is_first_order_in_the_step(white: tuple[spectra.Spectra, spectra.Moments]) -> None:
    whole, form = white
    sigma, eta = float(whole.sigma(POLE)[0, 0]), float(whole.eta(POLE)[0, 0])
    for name, rate in (("tied_balanced", 2 * 4 * sigma), ("untied_frozen", 4 * eta)):
        errors = []
        for step in (0.08, 0.04, 0.02):
            start, n = 0.02 * sigma / eta, np.array([4])
            found = descent.train(SETTINGS[name], form, POLE, n, np.array([start]), np.array([step / rate]), int(9 / step))
            ideal = closed.gain(SETTINGS[name], found.time[0], sigma, eta, start, 4)
            errors.append(np.abs(found.gain[0, :, 0, 0] - ideal).max() / (sigma / eta))
        assert errors[-1] < 0.01
        assert np.allclose([errors[0] / errors[1], errors[1] / errors[2]], 2, atol=0.15)


def test_a_wrong_exponent_disagrees() -> None:
    cells = [Cell({"N": n}, np.log(1 / n) + np.array([-1e-3, 0, 1e-3])) for n in (4, 8, 16, 32)]
    right, wrong = (Row("w", "time constant", 0, (Scale.of("N", p),)) for p in (-1, -2))
    assert experiments.judged(right, cells, 0.05).verdict == "agrees"
    assert experiments.judged(wrong, cells, 0.05).verdict == "disagrees"


def test_finite_length_error_falls_as_bounded() -> None:
    for pole in (0.8, -0.6):
        found = experiments.lengths(pole, 0.05)
        assert (found.worst.max(1) <= found.bound * (1 + 1e-9) + 1e-12).all()
        assert (found.worst.max(1) >= 0.1 * found.bound).all()  # no idle bound
        assert [row.verdict for row in found.rows] == ["agrees", "agrees"]


def test_largest_step_is_not_found_by_a_wrong_rate(
    white: tuple[spectra.Spectra, spectra.Moments], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, form = white
    assert {row.verdict for row in experiments.largest_steps(form, POLE, [4, 16, 64, 256], 0.05)} == {"agrees"}
    real = experiments.numbers
    monkeypatch.setattr(experiments, "numbers", lambda *given: 1.5 * real(*given))
    assert {row.verdict for row in experiments.largest_steps(form, POLE, [4, 16, 64, 256], 0.05)} == {"inconclusive"}


@pytest.mark.slow
def test_all_slopes_are_found_in_the_data_of_a_user(tmp_path: Path) -> None:
    data = synthetic.teacher(4000, pole=POLE, color=0.5, noise=0.3, seed=3)
    np.save(tmp_path / "mine.npy", np.concatenate([data.inputs, data.outputs], axis=-1)[0])
    mine, out = str(tmp_path / "mine.npy"), str(tmp_path / "out")
    names = ("tied_balanced", "tied_frozen", "untied_frozen", "untied_balanced_total")
    settings = [word for name in names for word in ("--setting", name)]
    assert cli.main(["dynamics", mine, "--states", "4,8,16,32", *settings, "-o", out, "--quiet", "--strict"]) == 0
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert table["counts"] == {"agrees": 8, "disagrees": 0, "inconclusive": 0}
    slopes = {(r["row"], r["kind"]): r["measured"]["N"]["slope"] for r in table["rows"]}
    for name, slope in {"tied_balanced": -1, "tied_frozen": -2, "untied_frozen": -1, "untied_balanced_total": 0}.items():
        assert slopes[name, "time constant"] == pytest.approx(slope, abs=0.01)
    assert table["options"]["pole"] == pytest.approx(POLE, abs=0.02)
    raw = next(note for note in table["notes"] if note.startswith("tied_balanced:"))
    assert "N^(-1.1" in raw  # −1 and a log
    assert (tmp_path / "out" / "report.html").stat().st_size > 50_000
    assert (tmp_path / "out" / "curves.csv").read_text().count("\n") > 1000


@pytest.mark.slow
def test_learned_poles_finite_steps_and_stages() -> None:
    data = synthetic.teacher(4096, pole=POLE, color=0.3)
    whole, form = spectra.spectra(data), spectra.moments(data, spectra.taps(POLE))
    rows = [*experiments.learned_pole(form, POLE, 0.05), *experiments.steps(form, POLE, 0.05)]
    assert {row.verdict for row in rows} == {"agrees"}
    found = experiments.stages(whole, spectra.moments(data, 400))
    rise = [found.time[np.argmax(found.flow[:, k] > found.flow[-1, k] / 2)] for k in range(len(found.sigma))]
    assert list(np.argsort(found.sigma)[::-1]) == list(np.argsort(rise))  # in the order of σ
    assert np.abs(found.descent - found.flow).max() < 0.02 * found.flow.max()


def test_public_function_refuses_what_it_cannot_do() -> None:
    for bad in ({"states": [4]}, {"pole": 1.0}, {"step": 2.0}, {"seeds": 1}):
        with pytest.raises(dynamics.InputError):
            dynamics.measure(**bad)


def test_the_sign_of_the_outputs_does_not_matter() -> None:
    data = synthetic.teacher(200)
    turned = spectra.Sequences(data.inputs, -data.outputs)
    found = dynamics.measure(turned, settings=["tied_frozen"], states=[2, 4], pole=POLE)
    assert found.learned[0].final > 0
