"""Learning dynamics of linear SSMs: what is derived, closed forms, statistics of data, files that are not as they must be.

Expected exponents: arXiv 2407.07279, its two time constants and the settings that they belong to.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

from scalecalc import cli, dynamics
from scalecalc.dynamics import closed, data, flow, spectra, synthetic, theory
from scalecalc.dynamics.convergence import numbers
from scalecalc.dynamics.derivation import proved
from scalecalc.dynamics.settings import ETA, SETTINGS, SIGMA, TAU, W, derive_setting
from scalecalc.errors import InputError, UnknownName

CONSTANTS = {
    "tied_balanced": "N^(-1) sigma^(-1)",
    "tied_balanced_total": "N^(-1) sigma^(-1)",
    "tied_frozen": "N^(-2) eta^(-1)",
    "untied_balanced": "sigma^(-1)",
    "untied_balanced_total": "sigma^(-1)",
    "untied_frozen": "N^(-1) eta^(-1)",
}
PUBLISHED = {"tied_balanced": "O(τ/(Nσ))", "tied_balanced_total": "O(τ/(Nσ))", "tied_frozen": "O(τ/(N²η))"}


def test_time_constants_are_the_published_ones_and_the_table_says_which() -> None:
    table = dynamics.derive(list(CONSTANTS))
    for name, wanted in CONSTANTS.items():
        row = table[name, "time constant"]
        assert row.formula() == wanted
        assert row.klass == PUBLISHED.get(name, "neither")
    assert table["tied_balanced", "half-rise"].formula() == "N^(-1) sigma^(-1) log G"  # −1 and a log
    assert table["untied_balanced_total", "half-rise"].formula() == "sigma^(-1) log G"  # nothing gained from N
    with pytest.raises(UnknownName, match="did you mean 'tied_frozen'"):
        dynamics.derive(["tied_frosen"])


@pytest.mark.parametrize("name", SETTINGS)
def test_half_rise_is_the_integral_of_the_flow(name: str) -> None:
    from scipy.integrate import quad

    derived = derive_setting(SETTINGS[name])
    n, s, e, g = 8.0, 1.7, 0.6, 50.0
    values = {SIGMA: s, ETA: e, TAU: 1, sp.Symbol("N", positive=True): n}
    speed = sp.lambdify(W, derived.flow.subs(values))
    expected = quad(lambda w: 1 / speed(w), s / e / g, s / e / 2)[0]
    assert float(numbers(derived.half, *(np.array([v]) for v in (n, s, e, g)))[0]) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("topic", [t for t in theory.TOPICS if t not in ("settings", "loss")])
def test_every_derivation_is_verified(topic: str) -> None:
    assert any(line.check == 0 for line in theory.derivation(topic).lines)
    assert all(theory.show(topic, format) for format in ("table", "markdown", "json"))


def test_a_wrong_identity_is_not_proved() -> None:
    from scalecalc.dynamics.frequency import _rational

    x = sp.Symbol("x")
    with pytest.raises(AssertionError, match="left over"):
        proved("a slip", sp.sin(x) ** 2, 1 + sp.cos(x) ** 2)
    omega, a = sp.symbols("omega a", real=True)
    z = sp.exp(-sp.I * omega)
    d = 1 / (1 - a * z)
    assert _rational(d * sp.conjugate(d) - 1 / (1 - a * (1 / z + z) + a**2), omega) == 0
    assert _rational(d - sp.conjugate(d), omega) != 0  # not real: a lost conjugate would show


def test_loss_by_frequency_is_proved() -> None:
    lines = theory.derivation("loss").lines
    assert sum(line.check == 0 for line in lines) >= 6


# ---------------------------------------------------------------- statistics


@pytest.fixture(scope="module")
def short() -> spectra.Sequences:
    random = np.random.default_rng(0)
    return spectra.Sequences(random.standard_normal((3, 40, 2)), random.standard_normal((3, 40, 2)))


def test_moments_and_spectra_are_what_they_say(short: spectra.Sequences) -> None:
    taps, pole = 7, 0.6
    found = spectra.moments(short, taps)
    u, y = short.inputs, short.outputs
    late = np.zeros((taps, *u.shape))
    for j in range(taps):
        late[j, :, j:] = u[:, : 40 - j]
    assert np.allclose(found.cross, np.einsum("sto,jstp->ojp", y, late) / 120)
    assert np.allclose(found.gram, np.einsum("jstp,lstq->jplq", late, late) / 120)
    circular = np.stack([np.roll(u, j, axis=1) * pole**j / (1 - pole**40) for j in range(40)]).sum(0)
    whole = spectra.spectra(short)
    assert np.allclose(whole.sigma(pole), np.einsum("sto,stp->op", y, circular) / 120)
    assert np.allclose(whole.eta(pole), np.einsum("stp,stq->pq", circular, circular) / 120)
    assert whole.yy == pytest.approx(found.yy)


def test_fewer_frequencies_have_the_same_statistics() -> None:
    whole = spectra.spectra(synthetic.teacher(3000, color=0.4, noise=0.2))
    small = whole.compressed(spectra.taps(0.8))
    assert len(small.omega) < len(whole.omega) / 10
    assert np.allclose([small.sigma(0.8), small.eta(0.8)], [whole.sigma(0.8), whole.eta(0.8)], rtol=1e-9)
    assert spectra.dominant(whole) == pytest.approx(0.8, abs=0.02)


def test_covariances_are_those_of_a_process() -> None:
    pole, color, lags = 0.5, 0.3, np.arange(80)
    uu = color**lags
    yu = sum(pole**j * color ** np.abs(lags - j) for j in range(200))
    found = data.covariances(uu, yu)
    assert float(found.sigma(pole)[0, 0] / found.eta(pole)[0, 0]) == pytest.approx(1, rel=1e-9)  # the teacher's gain
    with pytest.raises(InputError, match="negative"):
        data.covariances([1.0, 2.0, 0.0], [1.0, 0.0, 0.0])


# ---------------------------------------------------------------- closed forms against the flow


def test_closed_forms_solve_the_flow() -> None:
    found = spectra.spectra(synthetic.impulse(128))
    sigma, eta, pole = float(found.sigma(0.8)[0, 0]), float(found.eta(0.8)[0, 0]), np.full(5, 0.8)
    random = np.random.default_rng(1)
    t = np.linspace(0, 3 / sigma, 30)
    for _ in range(4):
        b, c = random.standard_normal((2, 5))
        path = flow.integrate(found, flow.System(pole, b[:, None], c[None]), t).gain[:, 0, 0]
        assert np.allclose(path, closed.unbalanced(t, sigma, eta, b, c), atol=1e-6)
    v = np.full((5, 1), 0.05)
    path = flow.integrate(found, flow.System(pole, v, v.T), t).gain[:, 0, 0]
    assert np.allclose(path, closed.sigmoid(t, sigma, eta, float((v**2).sum())), atol=1e-6)
    assert np.allclose(path, closed.unbalanced(t, sigma, eta, v[:, 0], v[:, 0]), atol=1e-6)
    path = flow.integrate(found, flow.System(pole, v, np.ones((1, 5))), t, learn="b").gain[:, 0, 0]
    assert np.allclose(path, closed.exponential(t, sigma, eta, float(v.sum()), 5), atol=1e-6)


def test_zero_order_hold_scales_the_statistics() -> None:
    found = spectra.spectra(synthetic.impulse(128))
    step, rate = 0.1, np.log(0.8) / 0.1
    gain = (np.exp(rate * step) - 1) / rate
    sigma, eta = float(found.sigma(0.8)[0, 0]), float(found.eta(0.8)[0, 0])
    v, t = np.full((3, 1), 0.2), np.linspace(0, 4 / (gain * sigma), 20)
    path = flow.integrate(found, flow.System(np.full(3, 0.8), v, v.T), t, gain=gain).gain[:, 0, 0]
    assert np.allclose(path, closed.sigmoid(t, gain * sigma, gain**2 * eta, 0.12), atol=1e-6)


def test_learned_poles_follow_the_gradient_of_the_loss_and_keep_what_is_conserved() -> None:
    found = spectra.spectra(synthetic.impulse(128, 0.7))
    random = np.random.default_rng(4)
    a, b, c = random.uniform(-0.5, 0.5, (3, 3))
    t = np.linspace(0, 3, 31)
    path = flow.integrate(found, flow.System(a, b[:, None], c[None]), t, learn="abc")
    kept = path.b[:, :, 0] ** 2 - path.c[:, 0] ** 2
    assert np.allclose(kept, kept[0], atol=1e-7)
    moved = sum(np.sum(np.diff(x, axis=0) ** 2) for x in (path.a, path.b, path.c))
    assert moved > 0
    assert np.all(np.diff(path.loss) < 0)
    # τ dL/dt = −|∂L/∂θ|², here at the start
    fine = flow.integrate(found, flow.System(a, b[:, None], c[None]), np.array([0, 1e-4]), learn="abc")
    speed = sum(np.sum((x[1] - x[0]) ** 2) for x in (fine.a, fine.b, fine.c)) / 1e-8
    assert (fine.loss[0] - fine.loss[1]) / 1e-4 == pytest.approx(speed, rel=1e-2)


def test_white_inputs_of_several_channels_decouple_into_singular_modes() -> None:
    random = np.random.default_rng(2)
    left, right = (np.linalg.qr(random.standard_normal((2, 2)))[0] for _ in range(2))
    values, pole = np.array([2.0, 0.7]), 0.6
    lags = pole ** np.arange(60)
    uu = np.zeros((60, 2, 2))
    uu[0] = np.eye(2)
    found = data.covariances(uu, lags[:, None, None] * (left * values) @ right.T)
    eta = float(found.eta(pole)[0, 0])
    b = 0.1 * right.T  # aligned and balanced: hidden unit i serves mode i
    t = np.linspace(0, 4, 20)
    path = flow.integrate(found, flow.System(np.full(2, pole), b, 0.1 * left), t).gain.real
    modes = np.einsum("oi,top,pi->ti", left, path, right)
    for i, s in enumerate(values):
        assert np.allclose(modes[:, i], closed.sigmoid(t, s * eta, eta, 0.01), atol=1e-6)


# ---------------------------------------------------------------- files


def csv(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


BAD = {
    "empty.csv": ("", "is empty"),
    "head.csv": ("u,y\n", "no samples"),
    "ragged.csv": ("u,y\n1,2\n3\n", "line 3, has 1 columns"),
    "words.csv": ("u,y\n1,2\n3,four\n", "line 3: 'four' is no number"),
    "nan.csv": ("u,y\n" + "1,2\n" * 20 + "nan,1\n", "have nan at sample 21"),
    "short.csv": ("u,y\n1,2\n", "at least 16"),
    "zero.csv": ("u,y\n" + "0,1\n" * 20, "inputs are all zero"),
    "names.csv": ("u,z\n1,2\n", "a column 'z'"),
    "three.csv": ("1,2,3\n", "3 columns and no heading"),
    "unequal.csv": ("sequence,u,y\n" + "1,1,2\n" * 20 + "2,1,2\n" * 17, "equally long"),
    "data.txt": ("1 2", "no form that is read"),
    "junk.npy": ("junk", "no array that NumPy wrote"),
    "junk.npz": ("junk", "no array that NumPy wrote"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_what_is_wrong(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, wanted = BAD[name]
    assert cli.main(["dynamics", csv(tmp_path / name, text)]) == 2
    assert wanted in capsys.readouterr().err


def test_bad_arrays_and_missing_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.ones(50))
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "keys.npz", a=np.ones(3))
    np.savez(tmp_path / "shapes.npz", u=np.ones(50), y=np.ones(60))
    np.savez(tmp_path / "complex.npz", u=np.ones(50) * 1j, y=np.ones(50))
    for name, wanted in {
        "flat.npy": "shape", "objects.npy": "objects", "keys.npz": "must hold u and y", "shapes.npz": "as many and as long",
        "complex.npz": "real numbers", "none.csv": "no file", ".": "a folder",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=wanted):
            data.read(tmp_path / name)


def test_every_form_reads_alike(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    u, y = random.standard_normal((2, 2, 30))
    np.savez(tmp_path / "a.npz", u=u, y=y)
    np.save(tmp_path / "a.npy", np.stack([u, y], axis=-1))
    lines = [f"{s},{float(u[s, t])!r},{float(y[s, t])!r}" for s in range(2) for t in range(30)]
    csv(tmp_path / "a.csv", "\n".join(["sequence;u;y", *lines]).replace(",", ";"))
    found = [data.read(tmp_path / f"a.{suffix}") for suffix in ("npz", "npy", "csv")]
    for one in found:
        assert isinstance(one, spectra.Sequences)
        assert np.array_equal(np.stack([one.inputs[..., 0], one.outputs[..., 0]]), [u, y])


@pytest.mark.parametrize("arguments", [
    ["--states", "4"], ["--states", "M=4:8"], ["--pole", "1.5", "--states", "2,4"], ["--setting", "nope"],
    ["--explain", "nope"], ["--step", "3", "--states", "2,4"], ["--no-measure", "x.csv"],
    ["--explain", "loss", "--format", "csv"],
])  # fmt: skip
def test_bad_options_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dynamics", *arguments]) == 2
    assert capsys.readouterr().err.startswith("scalecalc: ")


def test_help_is_light_and_deriving_needs_no_torch() -> None:
    code = (
        "import sys; from scalecalc.cli import main; main(['dynamics', '--help']); "
        "assert not {'torch', 'scipy', 'sympy', 'numpy'} & set(sys.modules); "
        "main(['dynamics', '--no-measure', '--setting', 'tied_frozen']); main(['dynamics', '--explain', 'conserved']); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_poles_are_learnt_no_faster_by_more_states() -> None:
    from scalecalc.dynamics.poles import last_stage

    assert str(last_stage(True).constant) == "1"
    assert str(last_stage(False).constant) == "N"
