"""Reverse mode at the level of programs: the gradient is recorded as further operations of the same program.

Every interpreter then runs the backward pass as it runs the forward pass: the scale engine derives the sizes of gradients
by the same rules, and the torch interpreter can measure every sum in them.
"""

from __future__ import annotations

from dataclasses import replace

from scalecalc.errors import MissingRule
from scalecalc.program import LEAVES, Program, Tensor
from scalecalc.rule import Rule, registry


def rule_of(program: Program, position: int) -> Rule:
    """The rule of one operation.

    Raises:
        MissingRule: there is none, with the place in the program and what to write.
    """
    op = program.ops[position]
    rules = registry("rule")
    if op.rule not in rules:
        raise MissingRule(op.rule, f"{op.name} ({op.where})", rules)
    return rules[op.rule]


def fitted(part: Tensor, tensor: Tensor) -> Tensor:
    """The gradient on the axes of the tensor that it belongs to, and real where that is."""
    from scalecalc.rules.complex import real
    from scalecalc.rules.reduction import broadcast, total

    extra = [label for label in part.axes if label not in tensor.axes]
    part = total(part, extra) if extra else part
    part = part if tensor.complex else real(part)
    # An update is added to its weight position by position; elsewhere axes are matched by label, whatever their order.
    same = part.axes == tensor.axes if tensor.op.rule == "weight" else set(part.axes) == set(tensor.axes)
    return part if same else broadcast(part, tensor)


def record_backward(program: Program, start: Tensor) -> None:
    """Append the backward pass of ``program.loss`` to the program, from its gradient ``start``.

    Fills ``program.gradients``: position of a tensor → position of its gradient, for everything that depends on a
    weight.  Does nothing to a program that has its backward pass already.
    """
    if program.gradients:
        return
    assert program.loss is not None
    length, trainable = len(program.ops), program.trainable()
    found: dict[int, Tensor] = {program.loss: start}
    program.recording_backward = True
    for position in reversed(range(length)):
        op = program.ops[position]
        if position not in found or not trainable[position]:
            continue
        g = found[position]
        program.ops[g.index] = replace(program.ops[g.index], name=f"d{op.name}")
        program.gradients[position] = g.index
        if op.rule in LEAVES:
            continue
        inputs = [program.tensor(i) for i in op.inputs]
        parts = rule_of(program, position).backward(inputs, program.tensor(position), g)
        for tensor, part in zip(inputs, parts, strict=True):
            if part is None or not trainable[tensor.index]:
                continue
            part = fitted(part, tensor)
            found[tensor.index] = found[tensor.index] + part if tensor.index in found else part
    program.recording_backward = False
    program.forward_length = length
