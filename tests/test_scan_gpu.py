"""The scan's kernels for the GPU without one: in Triton's interpreter against the loop, and compiled, with registers read.

The interpreter is chosen by TRITON_INTERPRET=1 before triton is imported, so that tests in it run in a process of their own.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from test_scan import ALL, CONSTANT, MIXED, Case, agree, both

from scalecalc.derive import interpret, resolve, table_of
from scalecalc.errors import MeasureError
from scalecalc.measure import contributions
from scalecalc.measure.contributions import Plan, measure
from scalecalc.measure.interpret import Setting
from scalecalc.measure.scan import combination, inputs, operator, reference, selective_scan, selective_scan_pair
from scalecalc.measure.scan.build import NoCompiler
from scalecalc.scale import FREE

triton = pytest.importorskip("triton")
interpreting = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not interpreting, reason="runs in a process with TRITON_INTERPRET=1")
compiling = pytest.mark.skipif(interpreting, reason="the interpreter compiles nothing")
CASES = (
    Case(2, 4, 7, 19, reach=(1e-6, 1e2)),  # two blocks of states, of which the second is not full
    Case(1, 1, 1, 1, "mamba", torch.float64),
    Case(2, 4, 70, 3, "bilinear", axes=MIXED, start=False),  # a wide tile that is not full; an input factor per channel
    Case(1, 6, 5, 9, "euler", torch.float64, reach=(1e-6, 0.1), skip=False),
    Case(2, 3, 33, 2, "zoh", torch.float64, axes=CONSTANT, reach=(1e-6, 30.0)),
    Case(2, 3, 5, 9, complex=True, reach=(1e-6, 1e2)),
    Case(1, 4, 34, 3, "zoh", torch.float64, True, CONSTANT, reach=(1e-6, 1e3)),  # S4D: all that a step needs is taken once
    Case(1, 3, 3, 9, "euler", torch.float64, True, MIXED, reach=(1e-6, 0.1), skip=False),
    Case(1, 3, 3, 3, "bilinear", torch.float64, True, start=False),
    Case(2, 3, 3, 2, "bilinear", torch.float32, True, start=False, reach=(2e2, 4e2)),  # where w + z w²/2 cancels
    Case(1, 3, 4, 2, "mamba", torch.float32, True, (3, 1, 1, 3)),
)


@pytest.fixture(autouse=interpreting)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The interpreter puts itself in the place of Triton's operations at every call within a kernel: once is enough."""
    interpreter = importlib.import_module("triton.runtime.interpreter")
    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", lambda self, *x, **named: self.rewrite()(*x, **named))
    scope = interpreter._patch_lang(triton.language.sum.fn)  # the kernels' own module is seen to where they start
    yield
    scope.restore()


@pytest.mark.slow
@compiling
def test_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b17 passed", done.stdout), done.stdout


@interpreted
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.scheme)
def test_agrees_with_the_loop(case: Case) -> None:
    agree(case, ALL if case.scheme != "mamba" else (), "triton")


@interpreted
def test_splits_parts_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the work is divided the result is the loop's, and the same from run to run."""
    from scalecalc.measure.scan import gpu

    monkeypatch.setattr(gpu, "tile_of", lambda *_, **__: gpu.Tile(2, 32, 255))
    for programs, spare, complex_ in ((64, 2**28, False), (1, 2**28, True), (64, 1, False)):
        monkeypatch.setattr(gpu, "_programs", lambda _, programs=programs: programs)
        monkeypatch.setattr(gpu, "SPARE", spare)
        case = Case(2, 2, 34, 3, "mamba", complex=complex_, start=False)
        agree(case, ("position",), "triton")
    assert all(torch.equal(a, b) for a, b in zip(both(case, "triton"), both(case, "triton"), strict=True))


@interpreted
@pytest.mark.parametrize("complex_", [False, True])
def test_pair(complex_: bool) -> None:
    """Two networks side by side, and the norms of the difference."""
    old, new = (Case(2, 3, 5, 6 - 3 * complex_, dtype=torch.float64, complex=complex_, seed=k) for k in (0, 1))
    found, exact = (selective_scan_pair(old.tensors(), new.tensors(), backend=b) for b in ("triton", "reference"))
    for part in ("old", "new", "difference"):
        for name in ALL:
            own, right = (getattr(getattr(norms, part), name) for norms in (found, exact))
            torch.testing.assert_close(own, right, rtol=1e-12, atol=0)


@interpreted
def test_three_networks() -> None:
    """A second difference: the fourth place of the tile is empty."""
    members = [Case(1, 2, 3, 3, dtype=torch.float64, complex=True, axes=CONSTANT, seed=k).tensors() for k in range(3)]
    found, exact = (combination(members, [1.0, -2.0, 1.0], norms=ALL, backend=b) for b in ("triton", "reference"))
    for own, right in zip(found[0], exact[0], strict=True):
        torch.testing.assert_close(own, right, rtol=1e-12, atol=1e-12)
    for own, right in zip(found[1], exact[1], strict=True):
        for name in ALL:
            torch.testing.assert_close(getattr(own, name), getattr(right, name), rtol=1e-11, atol=0)


@interpreted
def test_verify_without_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a verification measures on a GPU: the rows of a model whose states, complex ones, are not stored."""
    model = resolve("s6", options={"transition": "lru", "step": "fixed"})
    rows = table_of(interpret(model, FREE)).rows
    moved = [row for row in rows if row.kind == "update" and row.tag == ("W_B",)]
    plan, setting = Plan(model, tuple(moved)), Setting({"N_u": 5, "N_x": 3}, 1, 7)
    whole = measure(plan, setting)
    monkeypatch.setattr(contributions, "LEAST", 0)
    monkeypatch.setattr(contributions, "FEW", 0)
    monkeypatch.setattr(operator, "_backend", lambda *_: "triton")
    used = Mock(wraps=operator.kernel)
    monkeypatch.setattr(operator, "kernel", used)
    found = measure(plan, setting)
    used.assert_called_with("triton")
    assert found.keys() == whole.keys() != set()
    for key, logs in found.items():
        torch.testing.assert_close(logs, whole[key], rtol=0, atol=1e-7, msg=str(key))


@interpreted
def test_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the scan runs on the CPU, with one warning, and its result is there all the same."""
    from scalecalc.measure.scan import gpu

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nand more")

    monkeypatch.setattr(gpu, "forward", full)
    monkeypatch.setattr(gpu, "backward", full)
    operator.announce.cache_clear()
    with pytest.warns(operator.Slow, match=r"the scan runs on the CPU: it does not fit .*20 GiB\.\)\.$") as seen:
        agree(Case(2, 3, 4, 3), ("position",), "triton")
    assert len(seen) == 1


@compiling
def test_too_little_memory_for_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which keeps all states: where there is no Triton, and the GPU has no memory for them, the CPU's kernel is next."""
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler")
    case, scan = Case(2, 3, 4, 3), reference.scan

    def full(x: inputs.Inputs) -> reference.Scanned:
        if x.double:  # the exact values that the result is held against
            return scan(x)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nand more")

    monkeypatch.setattr(reference, "scan", full)
    monkeypatch.setattr(operator, "_backend", lambda name, *_: "c" if name == "auto" else "reference")
    operator.announce.cache_clear()
    with pytest.warns(operator.Slow, match=r"the scan runs on the CPU: it does not fit .*20 GiB\.\)\.$") as seen:
        agree(case, ("position",), "numba")
    assert len(seen) == 1
    assert selective_scan_pair(case.tensors(), case.tensors(), backend="numba").difference.max == 0


# ------------------------------------------------------------------ compiled

TARGETS = (80, 90)


@dataclass(frozen=True)
class Kernel:
    """What a kernel is compiled for; the rest of its kinds is in ``flags``."""

    backward: bool = False
    double: bool = False
    complex: bool = False
    members: int = 1
    norms: int = 0
    flags: Mapping[str, bool] = field(default_factory=dict)

    @property
    def tile(self) -> Any:
        from scalecalc.measure.scan import gpu

        kind = {"members": self.members, "norms": self.norms, "backward": self.backward}
        return gpu.tile_of(self.double, 4096, complex_=self.complex, **kind)


OWN = dict.fromkeys(("A_CHANNEL", "B_CHANNEL", "C_CHANNEL", "H0", "LAST"), True)  # every channel has its own of everything
KERNELS = (
    Kernel(norms=1, flags=OWN),
    Kernel(members=2, norms=2, flags={"A_CHANNEL": True}),  # all norms of two networks and of their difference
    Kernel(complex=True, norms=1, flags=OWN),
    Kernel(complex=True, double=True),
    Kernel(backward=True, flags={"A_CHANNEL": True}),
    Kernel(backward=True, complex=True, flags={"H0": True, "LAST": True}),
)


@dataclass(frozen=True)
class Compiled:
    """Registers a thread takes, bytes it spills, and what there is of exchanges between threads and of atomic additions."""

    registers: int
    spilled: int
    exchanges: int
    atomics: int


def compiled(kernel: Kernel, target: int, registers: int | None = None) -> Compiled:
    """A kernel for a GPU's compute capability, by zero-order hold, which takes the most."""
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.compiler import ASTSource

    from scalecalc.measure.scan import gpu
    from scalecalc.measure.scan import triton_kernels as kernels

    function = kernels.backward if kernel.backward else kernels.forward
    tile, real = kernel.tile, torch.float64 if kernel.double else torch.float32
    flags = dict.fromkeys(("FIXED", "A_CHANNEL", "B_CHANNEL", "C_CHANNEL", "H0", "LAST"), False)
    constants = {**flags, **kernel.flags, "SCHEME": 0, "TERMS": gpu.TERMS[real], "PARTS": 1 + kernel.complex}
    constants |= {"BN": tile.states, "BD": tile.channels}
    constants |= {} if kernel.backward else {"NORMS": kernel.norms, "M": kernel.members}
    pointer = "*fp64" if kernel.double else "*fp32"
    kinds = {n: "constexpr" if n in constants else pointer if n.endswith("_p") else "i32" for n in function.arg_names}
    source = ASTSource(fn=function, signature=kinds, constexprs=constants)
    options = {"num_warps": tile.warps, "maxnreg": registers or tile.registers}
    ptx = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options).asm["ptx"]
    command = [get_ptxas(target).path, "-v", f"--gpu-name=sm_{target}{'a' if target == 90 else ''}", "-o", os.devnull, "-"]
    said = subprocess.run(command, input=ptx, capture_output=True, text=True, check=True).stderr
    (taken,) = re.findall(r"Used (\d+) registers", said)
    exchanges, atomics = (len(re.findall(what, ptx)) for what in (r"\bshfl\.|\bbar\.sync", r"\b(?:atom|red)\."))
    return Compiled(int(taken), sum(map(int, re.findall(r"(\d+) bytes spill", said))), exchanges, atomics)


@pytest.mark.slow
@compiling
@pytest.mark.parametrize("target", TARGETS)
def test_compiled_without_spills(target: int) -> None:
    """No register is spilled, and as many programs fit into a multiprocessor's 65536 registers as are meant to.

    Nothing is atomic; and where no norms by state are asked for, threads do not exchange anything in the forward pass.
    """
    for kernel in KERNELS:
        found = compiled(kernel, target)
        together = 3 if kernel.members == 1 and not kernel.backward else 2
        assert found.spilled == found.atomics == 0, (kernel, found)
        assert found.registers * 128 * together <= 65536, (kernel, found)
        assert kernel.backward or kernel.norms > 1 or found.exchanges == 0, (kernel, found)


@pytest.mark.slow
@compiling
def test_spills_would_be_seen() -> None:
    found = compiled(KERNELS[0], TARGETS[0], 64)
    assert found.registers <= 64
    assert found.spilled > 0


# ------------------------------------------------------------------ what there is no kernel for


def failing() -> None:
    raise NoCompiler("none.")


@compiling
def test_one_message_and_the_next_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Triton, an old GPU, another maker's: said once, and the loop is chosen; asked for by name, it is an error."""
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(operator, "compiler", lambda: ("cc",))
    assert "compute capability is 7.5, and 8.0 is needed" in operator.without_triton(cuda)
    kind = (0,)
    operator.announce.cache_clear()
    with pytest.warns(operator.Slow, match="step by step.*7.5") as seen:
        assert {operator._backend("auto", "cuda", False, False, kind) for _ in range(2)} == {"reference"}
    assert len(seen) == 1
    with pytest.raises(MeasureError, match=r"'triton' does not work here: the GPU's .* Use 'auto' or 'reference'"):
        operator._backend("triton", "cuda", False, False, kind)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    with monkeypatch.context() as patch:
        patch.setattr(operator, "compiler", failing)
        assert "needs a C compiler to start its kernels: none." in operator.without_triton(cuda)
    assert {operator._backend("auto", "cuda", complex_, True, kind) for complex_ in (False, True)} == {"triton"}
    with monkeypatch.context() as patch:
        patch.setattr(torch.version, "hip", "6.4")
        assert "its kernels are for CUDA's GPUs, and the tensors are on cuda of ROCm" in operator.without_triton(cuda)
    assert "tensors are on cpu" in operator.without_triton(torch.device("cpu"))
    monkeypatch.setattr(operator, "has", lambda _: False)
    assert "pip install 'scalecalc[gpu]'" in operator.without_triton(cuda)
    x = inputs.of("zoh", *Case().tensors())
    with pytest.raises(MeasureError, match="numba is not installed"):
        operator.backend_of("numba", x)
    with pytest.raises(MeasureError, match="does not work here: Triton is not installed"):
        selective_scan(*Case().tensors()[:5], backend="triton")
