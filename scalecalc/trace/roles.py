"""What part a weight plays: which of its axes are summed over is known once it has been used."""

from __future__ import annotations

from dataclasses import replace

from scalecalc.program import ROLES, Program, Tensor, Weight
from scalecalc.table import WeightScaling


def describe(program: Program, scalings: dict[str, WeightScaling]) -> None:
    """The roles and fans of all weights, by their uses in a recorded program."""
    inner: dict[str, set[str]] = {}
    for op in program.ops:
        for i in op.inputs if op.params.get("over") and op.rule in ("matmul", "contraction") else ():
            weight, names = _weight_behind(program, program.tensor(i))
            if weight:
                inner.setdefault(weight, set()).update(names.get(label, label) for label in op.params["over"])
    for name, old in program.weights.items():
        into = [label for label in old.axes if label in inner.get(name, ())]
        out = [label for label in old.axes if label not in into]
        fan_in, fan_out = program.count(into), program.count(out)
        role = ROLES.get((bool(fan_in.dims), bool(fan_out.dims)), "vector") if into else "vector"
        program.weights[name] = Weight(name, old.axes, fan_in, fan_out, role)
        scalings[name] = replace(scalings[name], role=role)


def _weight_behind(program: Program, tensor: Tensor) -> tuple[str, dict[str, str]]:
    """The weight that a tensor is but for its axes, a norm and a gain, and what its labels are called there."""
    names = {label: label for label in tensor.axes}
    while tensor.op.rule in ("rename", "view", "centre", "rmsnorm", "contraction"):
        op, inner = tensor.op, [program.tensor(i) for i in tensor.op.inputs]
        if op.rule in ("rename", "view"):
            back = {new: old for old, new in op.params["names"].items()}
            names = {label: back.get(own, own) for label, own in names.items()}
        if op.rule == "contraction":
            inner = [t for t in inner if set(t.axes) == set(op.axes)]
            if op.params["over"] or len(inner) != 1:
                break
        tensor = inner[0]
    return (tensor.name, names) if tensor.op.rule == "weight" else ("", {})
