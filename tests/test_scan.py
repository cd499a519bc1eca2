"""The compiled scan against the float64 loop: values, gradients, norms, extremes, and what must not leak out of it."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalecalc.errors import InputError, MeasureError, UnknownName
from scalecalc.measure.scan import combination, operator, reference, selective_scan, selective_scan_pair

ALL = ("position", "channel", "state", "max")
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
# exp(−z) has the relative error z ε of z: what has decayed below this is held to an absolute error
FEW = 8
DECAYED = {torch.float32: 1e-4, torch.float64: 1e-100}

compiled = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")


@dataclass(frozen=True)
class Case:
    """One scan drawn at random: sizes, kinds of tensors by their number of axes, and how large |Δ A| is."""

    batch: int = 2
    time: int = 5
    channels: int = 7
    states: int = 3
    scheme: str = "zoh"
    dtype: torch.dtype = torch.float32
    complex: bool = False
    axes: tuple[int, int, int, int] = (3, 2, 3, 3)  # of delta, A (0: one number per channel), B, C
    skip: bool = True
    start: bool = True
    reach: tuple[float, float] = (1e-2, 1.0)
    seed: int = 0

    def tensors(self) -> list[torch.Tensor | None]:
        generator = torch.Generator().manual_seed(self.seed)
        b, t, c, n = self.batch, self.time, self.channels, self.states

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        def number(*shape: int) -> torch.Tensor:
            return torch.complex(normal(*shape), normal(*shape)) if self.complex else normal(*shape)

        low, high = np.log(self.reach)
        size = (low + (high - low) * torch.rand(c, n, generator=generator, dtype=torch.float64)).exp()
        A = -size if not self.complex else torch.polar(size, np.pi / 2 + torch.rand(c, n, generator=generator).double())
        A = (A[:, :1], A[0], A)[self.axes[1]]
        delta = (0.5 + torch.rand(b, t, c, generator=generator, dtype=torch.float64)) / 1.5
        shape = {3: (b, t, n), 2: (c, n), 1: (n,)}
        out = [
            normal(b, t, c),
            delta if self.axes[0] == 3 else delta[0, 0],
            A,
            number(*shape[self.axes[2]]),
            number(*shape[self.axes[3]]),
            normal(c) if self.skip else None,
            number(b, c, n) if self.start else None,
        ]
        kind = {False: self.dtype, True: self.dtype.to_complex()}
        return [None if x is None else x.to(kind[x.is_complex()]) for x in out]


def both(case: Case, backend: str, norms: tuple[str, ...] = (), *, positive: bool = False) -> list[torch.Tensor]:
    """y, the last state, the norms and all gradients of a random linear function of the first two.

    ``positive``: with the absolute values of all numbers but the transition's, so that nothing cancels.
    """
    x = case.tensors()
    if backend == "reference":
        x = [None if t is None else t.to(torch.complex128 if t.is_complex() else torch.float64) for t in x]
    x = [t if t is None or i == 2 or not positive else t.abs().to(t.dtype) for i, t in enumerate(x)]
    x = [None if t is None else t.clone().requires_grad_() for t in x]
    y, last, *found = selective_scan(
        *x[:5], D=x[5], h0=x[6], discretization=case.scheme, return_last=True, norms=norms, backend=backend
    )
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator).to(y.dtype) for t in (y, last)]
    weights = [w.abs() for w in weights] if positive else weights
    loss = (y * weights[0]).sum() + (last * weights[1]).real.sum()
    gradients = torch.autograd.grad(loss, [t for t in x if t is not None])
    return [y.detach(), last.detach(), *gradients, *(getattr(found[0], name) for name in norms)]


def agree(case: Case, norms: tuple[str, ...] = (), backend: str = "c") -> None:
    """Relative to the largest entry; a tensor of few entries, which may all cancel, relative to what is added up there."""
    found, exact = both(case, backend, norms), both(case, "reference", norms)
    few = min(t.numel() for t in exact) < FEW
    sizes = both(case, "reference", norms, positive=True) if few else exact
    # a decay near one that is the same at all times is off by the same rounding error at all of them
    steps = max(1.0, case.time / 16) if case.axes[0] == 1 and case.dtype == torch.float32 else 1.0
    # a complex product rounds √5 times as much as a real one (Brent, Percival & Zimmermann 2007)
    steps *= math.sqrt(5) if case.complex else 1.0
    for own, right, size in zip(found, exact, sizes, strict=True):
        assert own.shape == right.shape
        scale = (size if right.numel() < FEW else right).abs().max().clamp(min=DECAYED[case.dtype])
        assert (own - right).abs().max() <= steps * TOLERANCE[case.dtype] * scale, (case, tuple(own.shape))


@st.composite
def cases(draw: st.DrawFn, **fixed: object) -> Case:
    return Case(
        **{
            "batch": draw(st.integers(1, 5)),
            "time": draw(st.sampled_from([1, 2, 3, 17, 64])),
            "channels": draw(st.sampled_from([1, 2, 5, 16, 33, 130, 200])),
            "states": draw(st.sampled_from([1, 2, 3, 4, 5, 16, 19])),
            "skip": draw(st.booleans()),
            "start": draw(st.booleans()),
            "reach": draw(st.sampled_from([(1e-6, 1e-5), (1e-3, 1.0), (0.1, 30.0), (1e-6, 1e2)])),
            "seed": draw(st.integers(0, 1000)),
            **fixed,
        }
    )


@compiled
@settings(max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases(scheme="zoh"), st.booleans())
def test_agrees_with_the_loop(case: Case, double: bool) -> None:
    agree(Case(**{**case.__dict__, "dtype": torch.float64 if double else torch.float32}))


PLAIN, CONSTANT, MIXED, ALIKE = (3, 2, 3, 3), (1, 1, 1, 2), (3, 2, 2, 1), (3, 0, 3, 3)
SINGLE, DOUBLE = torch.float32, torch.float64


@compiled
@pytest.mark.slow
@settings(max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize(
    ("scheme", "kinds", "dtype", "complex_"),
    [
        ("zoh", CONSTANT, SINGLE, False),
        ("euler", PLAIN, SINGLE, False),
        ("bilinear", PLAIN, SINGLE, False),
        ("bilinear", CONSTANT, DOUBLE, False),
        ("mamba", MIXED, DOUBLE, False),
        ("zoh", PLAIN, SINGLE, True),
        ("zoh", CONSTANT, DOUBLE, True),
        ("euler", MIXED, DOUBLE, True),
        ("bilinear", PLAIN, DOUBLE, True),
        ("mamba", PLAIN, SINGLE, True),
        ("zoh", (1, 0, 3, 3), DOUBLE, True),
    ],
)
@given(st.data())
def test_every_kind_agrees_with_the_loop(
    scheme: str, kinds: tuple[int, int, int, int], dtype: torch.dtype, complex_: bool, data: st.DataObject
) -> None:
    reach = {"reach": (1e-6, 0.1)} if scheme == "euler" else {}  # it explodes beyond
    agree(data.draw(cases(scheme=scheme, axes=kinds, dtype=dtype, complex=complex_, **reach)))


@compiled
@pytest.mark.parametrize("states", [1, 3, 16, 257])
@pytest.mark.parametrize("time", [1, 20, 300])
def test_sizes(states: int, time: int) -> None:
    """No limit to the states, one step, and a sequence so long that it is gone through in pieces."""
    agree(Case(time=time, states=states, channels=9, batch=1))


@compiled
@pytest.mark.parametrize("complex_", [False, True])
def test_the_bilinear_rule_at_large_steps(complex_: bool) -> None:
    """|ΔA| of hundreds and no state at the start: Δ's gradient is then w² u, which is not what w + z w²/2 leaves of it."""
    agree(Case(2, 5, 7, 3, "bilinear", complex=complex_, start=False, reach=(2e2, 4e2), seed=1))


@compiled
def test_one_transition_for_all_states_of_a_channel() -> None:
    """As Mamba-2 has it: the gradient has that shape, too; short and long, with states left over."""
    for case in (Case(2, 5, 130, 7, "mamba", axes=ALIKE), Case(1, 260, 5, 18, "mamba", axes=ALIKE)):
        agree(case)
    x = Case(scheme="mamba", axes=ALIKE).tensors()[:5]
    whole = [t if i != 2 else t.expand(-1, 3).contiguous() for i, t in enumerate(x)]
    torch.testing.assert_close(*(selective_scan(*t, discretization="mamba") for t in (x, whole)))


@compiled
def test_norms() -> None:
    """Those of h by every axis, also where channels and states do not fill what they are computed in."""
    for case in (Case(channels=150, states=6, batch=3), Case(time=260, channels=3, states=17)):
        agree(case, ALL)
    norms = selective_scan(*Case().tensors()[:5], norms=("max",))[1]
    assert norms.position is None
    assert norms.max is not None
    assert norms.max.shape == ()
    assert not norms.max.requires_grad


@compiled
def test_pair() -> None:
    """The norms of h in two networks and of the difference, and y of each; the same from a single scan and the loop."""
    old, new = Case(dtype=torch.float64, channels=70, states=9), Case(dtype=torch.float64, channels=70, states=9, seed=1)
    found = selective_scan_pair(old.tensors(), new.tensors())
    exact = selective_scan_pair(old.tensors(), new.tensors(), backend="reference")
    for part in ("old", "new", "difference"):
        for name in ALL:
            own, other = (getattr(getattr(norms, part), name) for norms in (found, exact))
            torch.testing.assert_close(own, other, rtol=1e-12, atol=0)
    single = selective_scan(*old.tensors()[:5], D=old.tensors()[5], h0=old.tensors()[6], norms=ALL)[1]
    torch.testing.assert_close(found.old.state, single.state, rtol=1e-12, atol=0)
    same = selective_scan_pair(old.tensors(), old.tensors())
    assert same.difference.max == 0


@compiled
def test_second_difference() -> None:
    """Three networks side by side: h(+ε) − 2 h(0) + h(−ε) of a perturbed input factor, quadratic in ε where h is."""
    x = Case(dtype=torch.float64).tensors()

    def moved(by: float) -> list[torch.Tensor | None]:
        return [x[0], *x[1:2], x[2] * (1 + by), *x[3:]]  # type: ignore[operator, list-item]

    sizes = []
    for step in (1e-2, 2e-2):
        _, norms = combination([moved(step), moved(0.0), moved(-step)], [1.0, -2.0, 1.0])
        sizes.append(norms[-1].position)
    torch.testing.assert_close(sizes[1], 4 * sizes[0], rtol=1e-3, atol=0)


@compiled
@pytest.mark.parametrize("scheme", ["zoh", "bilinear"])
def test_gradcheck(scheme: str) -> None:
    x = [None if t is None else t.requires_grad_() for t in Case(2, 3, 3, 2, scheme, torch.float64).tensors()]

    def function(*t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return selective_scan(*t[:5], D=t[5], h0=t[6], discretization=scheme, return_last=True, backend="c")

    assert torch.autograd.gradcheck(function, x)


def test_the_loop_itself() -> None:
    """Against the recurrence of one scalar by hand, and differentiable twice."""
    u, delta = torch.tensor([[[1.0], [2.0]]]).double(), torch.full((1, 2, 1), 0.5).double()
    A, B, C = torch.tensor([[-2.0]]).double(), torch.tensor([3.0]).double(), torch.tensor([0.5]).double()
    decay, factor = np.exp(-1), (1 - np.exp(-1)) / 2
    h1 = factor * 3
    y = selective_scan(u, delta, A, B, C, D=torch.ones(1).double(), backend="reference")
    assert y.flatten().tolist() == pytest.approx([h1 / 2 + 1, (decay * h1 + factor * 6) / 2 + 2])
    x = [None if t is None else t.requires_grad_() for t in Case(1, 3, 2, 2, dtype=torch.float64).tensors()]
    assert torch.autograd.gradgradcheck(lambda *t: selective_scan(*t[:5], D=t[5], h0=t[6], backend="reference"), x)


def test_the_loop_keeps_its_digits() -> None:
    """(exp(ΔA) − 1)/A and its derivatives, at small ΔA where the plain formula has lost all digits, and at large ones."""
    A = -torch.tensor([0.0, 1e-12, 1e-6, 0.3, 3.0, 0.99999, 1.00001, 100.0], dtype=torch.float64)
    x = [torch.full_like(A, 0.5).requires_grad_(), A.requires_grad_()]
    value = reference.hold(*x)
    slopes = torch.autograd.grad(value.sum(), x)
    with mpmath.workdps(60):
        for a, v, by_delta, by_A in zip(*(t.tolist() for t in (A, value, *slopes)), strict=True):
            a = mpmath.mpf(a)
            exact = mpmath.expm1(a / 2) / a if a else mpmath.mpf(1) / 2
            assert v == pytest.approx(float(exact), rel=1e-15)
            assert by_delta == pytest.approx(float(mpmath.exp(a / 2)), rel=1e-13 if a < -10 else 2e-15)
            assert by_A == pytest.approx(float((mpmath.exp(a / 2) / 2 - exact) / a if a else 1 / 8), rel=4e-15)


@compiled
def test_equal_to_the_bit_whatever_the_threads() -> None:
    case = Case(batch=3, time=40, channels=300, states=20)
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 3, 3):
            torch.set_num_threads(threads)
            runs.append(both(case, "c", ("position",)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in runs[1:] for a, b in zip(runs[0], other, strict=True))


@compiled
def test_denormals_stay_what_they_were_outside() -> None:
    tiny = np.float32(1e-40)
    both(Case(), "c")
    assert tiny * np.float32(0.5) > 0
    assert float(torch.tensor([1e-40]) * 0.5) > 0


@compiled
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", range(5))
def test_what_is_not_finite_comes_out(bad: float, place: int) -> None:
    """Wherever it goes in, y from then on is not finite, the other channels or sequences are, and nothing hangs."""
    comes_out(bad, place, "c")


def comes_out(bad: float, place: int, backend: str) -> None:
    x = Case(batch=2, time=4, channels=20, states=3, skip=False, start=False).tensors()
    x[place][(1, 2, 0)[: x[place].dim()]] = bad if place != 1 or bad != bad else -bad  # type: ignore[index, union-attr]
    y, norms = selective_scan(*x[:5], norms=("position", "max"), backend=backend)
    exact = selective_scan(*x[:5], backend="reference")
    assert torch.equal(y.isfinite(), exact.isfinite())
    assert y[0].isfinite().all() or place == 2
    assert not y.isfinite().all()
    if place != 4:  # C does not enter the state
        assert not norms.position.isfinite().all()
        assert not norms.max.isfinite()


@compiled
def test_zero_tails() -> None:
    """A drive that stops: the state decays through the denormals to zero, and gradients are those of the loop."""
    case = Case(time=60, reach=(1.0, 30.0), dtype=torch.float32, start=False)
    x, exact = case.tensors(), [None if t is None else t.double() for t in case.tensors()]
    for t in (x, exact):
        t[0][:, 4:] = 0  # type: ignore[index]
    y, want = (selective_scan(*t[:5]) for t in (x, exact))
    assert (y - want).abs().max() <= 1e-6 * want.abs().max()


@compiled
def test_one_operation_for_compile_and_export() -> None:
    """torch's own checks of the operation (schema, fake kernel, autograd), and one node in an exported program."""
    x = Case(channels=3, states=2).tensors()
    torch.library.opcheck(operator.scan_op, (*(None if t is None else t.requires_grad_() for t in x), "zoh", True, 2, "c"))

    class Layer(torch.nn.Module):
        def forward(self, u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor):
            return selective_scan(u, delta, A, B, C, backend="c")

    given = tuple(t.detach() for t in x[:5])  # type: ignore[union-attr]
    graph = torch.export.export(Layer(), given).graph
    assert [n.target for n in graph.nodes].count(torch.ops.scalecalc.selective_scan.default) == 1
    eager = torch.compile(Layer(), backend="eager", fullgraph=True)(*given)
    assert torch.equal(eager, Layer()(*given))
    (gradient,) = torch.autograd.grad(Layer()(*x[:5]).sum(), x[0], create_graph=True)
    with pytest.raises(MeasureError, match="first derivatives alone; for second ones take backend='reference'"):
        gradient.sum().backward()


def test_errors_say_what_to_do() -> None:
    u, delta, A, B, C = Case().tensors()[:5]
    with pytest.raises(UnknownName, match="did you mean 'zoh'"):
        selective_scan(u, delta, A, B, C, discretization="zho")
    with pytest.raises(UnknownName, match="there is no scan backend 'cuda'"):
        selective_scan(u, delta, A, B, C, backend="cuda")
    with pytest.raises(MeasureError, match=r"'triton' does not work here: .*tensors are on cpu"):
        selective_scan(u, delta, A, B, C, backend="triton")
    with pytest.raises(UnknownName, match="there is no norm 'mean'"):
        selective_scan(u, delta, A, B, C, norms=("mean",))
    with pytest.raises(InputError, match=r"B of selective_scan has shape \(2, 3\).*\(2, 5, 3\) or \(7, 3\) or \(3,\)"):
        selective_scan(u, delta, A, B[:, 0], C)
    with pytest.raises(InputError, match=r"float32 or float64, not in torch\.bfloat16"):
        selective_scan(*(t.bfloat16() for t in (u, delta, A, B, C)))
    with pytest.raises(InputError, match="u of selective_scan is complex"):
        selective_scan(u + 0j, delta, A, B, C)
    with pytest.raises(MeasureError, match="works on the CPU"):
        selective_scan(*(t.to("meta") for t in (u, delta, A, B, C)), backend="c")
    with pytest.raises(InputError, match="differ in the shapes"):
        selective_scan_pair([u, delta, A, B, C], [u, delta[0, 0], A, B, C])


WITHOUT_COMPILER = """
import os, warnings
os.environ.pop("CC", None)
os.environ["PATH"] = os.environ["HERE"]
import torch
from scalecalc.measure.scan import inputs, operator, selective_scan
x = torch.ones(1, 2, 2), torch.ones(1, 2, 2), -torch.ones(2, 2), torch.ones(2), torch.ones(2)
own = *x[:3], torch.ones(2, 2), x[4]  # an input factor of every channel: numba's kernel has none of these
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    operator.has = lambda _: False
    first, second = selective_scan(*x), selective_scan(*x)
    operator.has = lambda _: True
    third = selective_scan(*own)
    chosen = operator.backend_of("auto", inputs.of("zoh", *x, None, None))
assert torch.equal(first, second)
assert torch.equal(first, selective_scan(*x, backend="reference"))
assert torch.equal(first, third)
print(chosen, *(w.message for w in seen), sep="\\n")
"""


def test_without_a_compiler_it_says_so_and_is_right(tmp_path) -> None:
    """The fallbacks, in a process of its own whose path has no compiler: each is announced once, and right."""
    environment = {**os.environ, "HERE": str(tmp_path), "SCALECALC_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", WITHOUT_COMPILER]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    chosen, alone, other, numba = done.stdout.splitlines()
    stepwise = "the scan runs step by step in torch, many times slower than compiled: no C compiler"
    assert alone.startswith(stepwise)
    assert alone.endswith("Or pip install 'scalecalc[numba]'.")
    assert other.startswith(stepwise)
    assert other.endswith("numba serves real transitions with B and C per token or the same for all channels.")
    assert chosen == "numba"
    assert numba.startswith("the scan is compiled by numba, which takes ten seconds once and runs up to twice as")


@pytest.mark.slow
def test_numba_agrees_with_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scheme, odd sizes, tensors that are the same at all times; several threads; the pair mode; what is not finite.

    In single precision: what there is for double precision alone is held against exact values below.
    """
    jit = pytest.importorskip("scalecalc.measure.scan.jit")
    for scheme in ("zoh", "euler", "bilinear", "mamba"):
        reach = (1e-6, 0.1) if scheme == "euler" else (1e-6, 1e2)
        agree(Case(2, 6, 130, 19, scheme, reach=reach), ALL, "numba")
    agree(Case(1, 1, 1, 1, axes=(*CONSTANT[:3], 3)), backend="numba")
    agree(Case(3, 70, 65, 16, "mamba", axes=(1, 1, 3, 1), skip=False, start=False), backend="numba")
    agree(Case(2, 4, 20, 5, "mamba", axes=ALIKE), backend="numba")
    monkeypatch.setattr(jit, "ALONE", 0)
    case = Case(2, 6, 300, 3)
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            runs.append(both(case, "numba", ALL))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert torch.tensor([1e-40]) * 0.5 > 0
    old, new = Case(channels=70, states=9), Case(channels=70, states=9, seed=1)
    found, exact = (selective_scan_pair(old.tensors(), new.tensors(), backend=b) for b in ("numba", "reference"))
    for name in ALL:
        own, right = (getattr(norms.difference, name) for norms in (found, exact))
        torch.testing.assert_close(own, right, rtol=1e-6, atol=0)
    for place in range(5):
        comes_out(math.nan, place, "numba")
        comes_out(math.inf, place, "numba")
    with pytest.raises(MeasureError, match="serves real transitions"):
        selective_scan(*Case(axes=MIXED).tensors()[:5], backend="numba")


@pytest.mark.slow
def test_numba_in_double_precision() -> None:
    """Its exponential and the series of a zero-order hold's derivative."""
    numba = pytest.importorskip("numba")
    from scalecalc.measure.scan.numba_vectors import BYTES, load, power, slope, store

    @numba.njit
    def values(x, out):
        up, less = power(load(x, 0))
        store(up, out[0], 0)
        store(less, out[1], 0)
        store(slope(load(x, 0)), out[2], 0)

    def of(x: float) -> list[float]:
        out = np.empty((3, BYTES // 8))
        values(np.full(BYTES // 8, x), out)
        return out[:, -1].tolist()

    with mpmath.workdps(40):
        for x in (0.0, -1e-12, 0.3, -0.49, -3.7, -1000.2, 40.1):
            up, less, slopes = of(x)
            assert up == pytest.approx(float(mpmath.mpf(2) ** x), rel=4e-16)
            assert less == pytest.approx(float(mpmath.mpf(2) ** x - 1), rel=4e-16, abs=0)
            if 1e-3 < abs(x) < 0.5:
                z = mpmath.mpf(x)
                assert slopes == pytest.approx(float(((z - 1) * mpmath.exp(z) + 1) / z**2), rel=4e-16)
    assert of(-1100.0)[0] == 0
    assert math.isinf(of(1100.0)[0])
    assert math.isnan(of(math.nan)[0])


@compiled
def test_many_may_compile_at_once(tmp_path) -> None:
    """Four of them make one library, whole at any time, and leave nothing beside it."""
    from scalecalc.measure.scan import build

    names = ("DOUBLE", "COMPLEX", "SCHEME", "DELTA_FIXED", "A_ALIKE", "B_CHANNEL", "C_CHANNEL", "MEMBERS", "NORMS")
    macros = dict(zip(names, (0, 0, 1, 1, 0, 0, 0, 1, 1), strict=True))
    file, defined = tmp_path / "scan.so", tuple(f"-D{name}={value}" for name, value in macros.items())
    threads = [threading.Thread(target=build._compile, args=(file, defined)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [f.name for f in tmp_path.iterdir()] == ["scan.so"]
    assert hasattr(ctypes.CDLL(str(file)), "scan_forward")


@compiled
def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch) -> None:
    from scalecalc.measure.scan import build, cpu

    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho no such thing >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("SCALECALC_CACHE", str(tmp_path / "cache"))
    for cached in (build.compiler, build._identity, build._library, cpu.kernel):
        cached.cache_clear()
    try:
        with pytest.raises(build.NoCompiler, match=r"(?s)broken cannot compile the scan:.*no such thing"):
            selective_scan(*Case().tensors()[:5], backend="c")
        assert not list((tmp_path / "cache").iterdir())
    finally:
        monkeypatch.undo()
        for cached in (build.compiler, build._identity, build._library, cpu.kernel):
            cached.cache_clear()
