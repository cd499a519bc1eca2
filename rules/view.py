"""Views: pieces of a fixed axis, their place in a longer one, axes split and merged, windows of a sequence.

None of them changes an entry.  A growing axis may be split into one of fixed size and one that grows (features into heads),
or be merged from such; the growing one keeps its name but for its size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule, spread
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch


def part(x: Tensor, axis: str, to: str, start: int, stop: int) -> Tensor:
    """x[start:stop] along a fixed axis, which is then called ``to`` (``""``: one entry, and no axis)."""
    axes = tuple(label for own in x.axes if (label := to if own == axis else own))
    of = x.program.size(axis)
    return x.program.record("part", (x,), axes, axis=axis, to=to, start=start, stop=stop, of=of)


def padded(x: Tensor, axis: str, to: str, start: int, order: Sequence[str]) -> Tensor:
    """x at x[start:…] of a longer fixed axis ``to``, zero elsewhere; ``axis`` is ``""`` for one entry without an axis.

    ``order``: the axes of the result.
    """
    return x.program.record("padded", (x,), order, axis=axis, to=to, start=start, of=x.program.size(to))


def view(x: Tensor, group: Sequence[str], into: Sequence[str]) -> Tensor:
    """x with adjacent axes (``group``, outermost first) read as others (``into``).

    At most one of each grows.  The axes ``into`` come last.
    """
    program = x.program
    grows = [[label for label in own if program.grows(label)] for own in (group, into)]
    assert len(grows[0]) == len(grows[1]) <= 1
    sizes = tuple(-1 if program.grows(label) else program.size(label) for label in into)
    axes = (*(label for label in x.axes if label not in group), *into)
    names = dict(zip(*grows, strict=True))
    return program.record("view", (x,), axes, group=tuple(group), into=tuple(into), sizes=sizes, names=names)


def windows(x: Tensor, over: str, times: str, taps: str, before: int) -> Tensor:
    """x_{t + k − before} for every t and tap k, zero outside the sequence: what a convolution sums over."""
    axes = (*(label for label in x.axes if label != over), times, taps)
    program = x.program
    sizes = {"before": before, "times": program.size(times), "taps": program.size(taps), "steps": program.size(over)}
    return program.record("windows", (x,), axes, over=over, names=(times, taps), **sizes)


def stop(x: Tensor) -> Tensor:
    """x as a constant: no gradient passes."""
    return x.program.record("stop", (x,), x.axes)


class View(Rule):
    """The same entries: sizes, profiles and parities are kept."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (1,)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        (x,) = values
        return algebra.add(labels, x) if x.exact is None else Value(labels, x.terms, x.exact)


@rule("part", "definition")
class Part(View):
    """Entries along a fixed axis, which has the same sizes everywhere."""

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        p = output.op.params
        order = tuple(label for label in inputs[0].axes if label == p["axis"] or label in g.axes)
        return [padded(g, p["to"] if p["to"] in g.axes else "", p["axis"], p["start"], order)]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        p, dim = op.params, 1 + axes[0].index(op.params["axis"])
        out = tensors[0].narrow(dim, p["start"], p["stop"] - p["start"])
        return out if p["to"] else out.squeeze(dim)

    def latex(self, op: Op, *names: str) -> str:
        return rf"{names[0]}_{{[{op.params['start']}:{op.params['stop']}]}}"

    def sample(self, program: Program) -> Tensor:
        # data that are alike along fixed axes, as the engine takes all data to be
        return part(program.input("x", "batch N") * program.input("c", "time"), "time", "", 1, 2)


@rule("padded", "definition")
class Padded(View):
    """A tensor's place in a longer fixed axis: a fixed number of zeros beside it change no size."""

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        p, (x,) = output.op.params, inputs
        stop = p["start"] + (x.program.size(p["axis"]) if p["axis"] else 1)
        return [part(g, p["to"], p["axis"], p["start"], stop)]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        import torch

        p = op.params
        own = [p["axis"] if label == p["to"] else label for label in op.axes if label != p["to"] or p["axis"]]
        (x,) = spread(axes, own, *tensors)
        dim = 1 + op.axes.index(p["to"])
        x = x if p["axis"] else x.unsqueeze(dim)
        gap_before, after = (
            x.new_zeros((*x.shape[:dim], gap, *x.shape[dim + 1 :]))
            for gap in (p["start"], p["of"] - p["start"] - x.shape[dim])
        )
        return torch.cat([gap_before, x, after], dim)

    def latex(self, op: Op, *names: str) -> str:
        return rf"(0, {names[0]}, 0)"

    def sample(self, program: Program) -> Tensor:
        x = program.input("x", "batch N")
        # zeros beside it: what is measured is a root-mean-square that they change by a constant
        return padded(x, "", "time", 1, ("batch", "time", "N"))


@rule("view", "definition")
class Reshape(View):
    """Axes split or merged: one of fixed size beside one that grows, which keeps its profile and parity."""

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        names: Mapping[str, str] = op.params["names"]
        return super().law(algebra, op, labels, algebra.rename(values[0], names))

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        from scalecalc.rules.reduction import broadcast

        p = output.op.params
        whole = g if all(label in g.axes for label in p["into"]) else broadcast(g, output)
        return [view(whole, p["into"], p["group"])]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        (x,), (own,) = tensors, axes
        group, sizes = op.params["group"], op.params["sizes"]
        rest = [label for label in own if label not in group]
        x = x.permute(0, *(1 + own.index(label) for label in (*rest, *group)))
        shape = x.shape[: 1 + len(rest)]
        count = math.prod(x.shape[1 + len(rest) :])
        known = math.prod(s for s in sizes if s > 0)
        return x.reshape(*shape, *(s if s > 0 else count // known for s in sizes))

    def latex(self, op: Op, *names: str) -> str:
        return names[0]

    def sample(self, program: Program) -> Tensor:
        program.multiples["N'"] = 4
        x = program.input("x", "batch N")
        return view(x, ("batch", "N"), ("N'",))


@rule("stop", "definition: what PyTorch calls detach")
class Stop(View):
    """The same entries, through which no gradient passes."""

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [None]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        return tensors[0].detach()

    def latex(self, op: Op, *names: str) -> str:
        return rf"\operatorname{{stop}}({names[0]})"

    def sample(self, program: Program) -> Tensor:
        return stop(program.input("x", "batch N"))


@rule("windows", "definition")
class Windows(View):
    """The neighbours of every time, side by side: a fixed number of them, with the sequence's sizes."""

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        from scalecalc.rules.reduction import broadcast

        p = output.op.params
        whole = g if all(label in g.axes for label in p["names"]) else broadcast(g, output)
        axes = tuple(p["over"] if label == p["names"][0] else label for label in whole.axes if label != p["names"][1])
        return [whole.program.record("windows_backward", (whole,), axes, **p)]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        import torch

        p = op.params
        x = tensors[0].movedim(1 + axes[0].index(p["over"]), -1)
        after = p["times"] + p["taps"] - 1 - p["before"] - p["steps"]
        return torch.nn.functional.pad(x, (p["before"], after)).unfold(-1, p["taps"], 1)

    def latex(self, op: Op, *names: str) -> str:
        return rf"{names[0]}_{{t+k-{op.params['before']}}}"

    def sample(self, program: Program) -> Tensor:
        x = program.input("x", "batch N") * program.input("c", "time")
        program.fixed.update({"longer": 3, "taps": 2})
        return windows(x, "time", "longer", "taps", 1)


@rule("windows_backward", "definition: the adjoint of windows")
class WindowsBackward(View):
    """The windows put back where they were taken from: a sum of a fixed number of entries."""

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        p = output.op.params
        return [windows(g, p["over"], *p["names"], p["before"])]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        p = op.params
        rest = [label for label in op.axes if label != p["over"]]
        (g,) = spread(axes, (*rest, *p["names"]), *tensors)
        long = g.new_zeros((*g.shape[:-2], p["times"] + p["taps"] - 1))
        for k in range(p["taps"]):
            long[..., k : k + p["times"]] += g[..., k]
        return long[..., p["before"] : p["before"] + p["steps"]].movedim(-1, 1 + op.axes.index(p["over"]))

    def latex(self, op: Op, *names: str) -> str:
        return rf"\sum_k {names[0]}_{{t-k+{op.params['before']}, k}}"

    def sample(self, program: Program) -> Tensor:
        program.fixed.update({"longer": 3, "taps": 2})
        g = program.input("x", "batch N") * program.input("c", "longer taps")
        axes = ("batch", "N", "time")
        p = {"over": "time", "names": ("longer", "taps"), "before": 1, "times": 3, "taps": 2, "steps": 2}
        return program.record("windows_backward", (g,), axes, **p)

