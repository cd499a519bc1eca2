"""The scan's kernels for the GPU without one: in Triton's interpreter against the loop, and compiled, with registers read.

The interpreter is chosen by TRITON_INTERPRET=1 before triton is imported, so that tests in it run in a process of their own.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_scan import ALL, CONSTANT, MIXED, Case, agree, both

from scalecalc.errors import MeasureError
from scalecalc.measure.scan import inputs, operator, selective_scan, selective_scan_pair
from scalecalc.measure.scan.build import NoCompiler

triton = pytest.importorskip("triton")
interpreting = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not interpreting, reason="runs in a process with TRITON_INTERPRET=1")
compiling = pytest.mark.skipif(interpreting, reason="the interpreter compiles nothing")
CASES = (
    Case(2, 5, 7, 19, reach=(1e-6, 1e2)),  # two blocks of states, of which the second is not full
    Case(1, 1, 1, 1, "mamba", torch.float64),
    Case(2, 4, 70, 3, "bilinear", axes=MIXED, start=False),  # a wide tile that is not full; an input factor per channel
    Case(1, 6, 5, 9, "euler", torch.float64, reach=(1e-6, 0.1), skip=False),
    Case(2, 3, 33, 2, "zoh", torch.float64, axes=CONSTANT, reach=(1e-6, 30.0)),
    Case(2, 3, 5, 9, complex=True, reach=(1e-6, 1e2)),
    Case(1, 4, 34, 3, "zoh", torch.float64, True, CONSTANT, reach=(1e-6, 1e3)),  # S4D: all that a step needs is taken once
    Case(1, 3, 3, 9, "euler", torch.float64, True, MIXED, reach=(1e-6, 0.1), skip=False),
    Case(1, 3, 3, 3, "bilinear", torch.float64, True, start=False),
    Case(2, 3, 3, 2, "bilinear", torch.float32, True, (1, 2, 2, 2)),
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
    assert re.search(r"\b8 passed", done.stdout), done.stdout


@interpreted
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.scheme)
def test_agrees_with_the_loop(case: Case) -> None:
    agree(case, ALL if case.scheme != "mamba" else (), "triton")


@interpreted
def test_splits_parts_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the work is divided the result is the loop's, and the same from run to run."""
    from scalecalc.measure.scan import gpu

    case = Case(2, 3, 40, 9, "mamba", start=False)
    monkeypatch.setattr(gpu, "tile_of", lambda *_, **__: gpu.Tile(2, 32))
    for programs, spare in ((64, 2**28), (1, 2**28), (64, 1)):
        monkeypatch.setattr(gpu, "_programs", lambda _, programs=programs: programs)
        monkeypatch.setattr(gpu, "SPARE", spare)
        agree(case, ("position",), "triton")
    assert all(torch.equal(a, b) for a, b in zip(both(case, "triton"), both(case, "triton"), strict=True))


@interpreted
def test_pair() -> None:
    old, new = (Case(2, 3, 5, 6, dtype=torch.float64, seed=k) for k in (0, 1))
    found, exact = (selective_scan_pair(old.tensors(), new.tensors(), backend=b) for b in ("triton", "reference"))
    for part in ("old", "new", "difference"):
        for name in ALL:
            own, right = (getattr(getattr(norms, part), name) for norms in (found, exact))
            torch.testing.assert_close(own, right, rtol=1e-12, atol=0)


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


# ------------------------------------------------------------------ compiled

MOST_REGISTERS, TARGETS = 255, (80, 90)


def resources(backward: bool, target: int, registers: int | None = None) -> tuple[int, int]:
    """Registers a thread takes and bytes it spills in a kernel compiled for a GPU's compute capability."""
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.compiler import ASTSource

    from scalecalc.measure.scan import gpu
    from scalecalc.measure.scan import triton_kernels as kernels

    kernel = kernels.backward if backward else kernels.forward
    members, norms = (1, 0) if backward else (2, 2)
    tile = gpu.tile_of(False, 4096, members=members, norms=norms, backward=backward)
    constants = {"SCHEME": 0, "TERMS": gpu.TERMS[torch.float32], "B_CHANNEL": False, "C_CHANNEL": False, "H0": False}
    constants |= {"LAST": False, "BN": tile.states, "BD": tile.channels}
    constants |= {} if backward else {"NORMS": norms, "M": members}
    kinds = {n: "constexpr" if n in constants else "*fp32" if n.endswith("_p") else "i32" for n in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=constants)
    options = {"num_warps": tile.warps, "maxnreg": registers or gpu.REGISTERS}
    ptx = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options).asm["ptx"]
    command = [get_ptxas(target).path, "-v", f"--gpu-name=sm_{target}{'a' if target == 90 else ''}", "-o", os.devnull, "-"]
    said = subprocess.run(command, input=ptx, capture_output=True, text=True, check=True).stderr
    (taken,) = re.findall(r"Used (\d+) registers", said)
    return int(taken), sum(map(int, re.findall(r"(\d+) bytes spill", said)))


def fits(taken: int, spilled: int) -> bool:
    return taken <= MOST_REGISTERS and spilled == 0


@pytest.mark.slow
@compiling
@pytest.mark.parametrize("target", TARGETS)
def test_compiled_without_spills(target: int) -> None:
    """Forward with all norms of two networks and of their difference; backward; zero-order hold, which takes the most."""
    assert fits(*resources(False, target))
    assert fits(*resources(True, target))


@pytest.mark.slow
@compiling
def test_spills_would_be_seen() -> None:
    taken, spilled = resources(False, TARGETS[0], 64)
    assert taken <= 64
    assert spilled > 0
    assert not fits(taken, spilled)


# ------------------------------------------------------------------ what there is no kernel for


def failing() -> None:
    raise NoCompiler("none.")


@compiling
def test_one_message_and_the_next_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Triton, an old GPU, complex transitions: said once, and the loop is chosen; asked for by name, it is an error."""
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(operator, "compiler", lambda: ("cc",))
    assert "compute capability is 7.5, and 8.0 is needed" in operator.without_triton(cuda, False)
    macros = (("DOUBLE", 0),)
    operator.announce.cache_clear()
    with pytest.warns(operator.Slow, match="step by step.*7.5") as seen:
        assert {operator._backend("auto", "cuda", False, False, macros) for _ in range(2)} == {"reference"}
    assert len(seen) == 1
    with pytest.raises(MeasureError, match=r"'triton' does not work here: the GPU's .* Use 'auto' or 'reference'"):
        operator._backend("triton", "cuda", False, False, macros)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    with monkeypatch.context() as patch:
        patch.setattr(operator, "compiler", failing)
        assert "needs a C compiler to start its kernels: none." in operator.without_triton(cuda, False)
    assert operator._backend("auto", "cuda", False, True, macros) == "triton"
    assert "for real transitions" in operator.without_triton(cuda, True)
    assert "tensors are on cpu" in operator.without_triton(torch.device("cpu"), False)
    monkeypatch.setattr(operator, "has", lambda _: False)
    assert "pip install 'scalecalc[gpu]'" in operator.without_triton(cuda, False)
    x = inputs.of("zoh", *Case().tensors())
    with pytest.raises(MeasureError, match="numba is not installed"):
        operator.backend_of("numba", x)
    with pytest.raises(MeasureError, match="does not work here: Triton is not installed"):
        selective_scan(*Case().tensors()[:5], backend="triton")
