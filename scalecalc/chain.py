"""Deep networks: inits told by their product along a path, so that sizes stay short.

A feature high up is as large as the product of all inits below it, and a gradient low down has those of all above it: with
L layers every formal size has L unknowns.  Told by ``path W`` = the product of the inits on the way from the input to W, W's
own among them, they telescope: the init of W_3 is (path W_3)/(path W_2), a feature W_3 h2 has path W_3, and a gradient there
the output's path over it.  Nothing else changes: inits and paths determine each other, one by one from the input up, whatever
weight is taken to come before another.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from scalecalc.program import Program
from scalecalc.scale import Scale

ONE = Scale.one()
INIT, PATH = "init ", "path "


def before(program: Program) -> dict[str, str]:
    """Weight → the weight before it on its path, the last of those that what it multiplies depends on; none for the first.

    What is added, such as a bias, is on no path of others.
    """
    position = program.leaves("weight")
    last: dict[int, str] = {}  # operation → the last weight on the way to it
    leaf: dict[int, str] = {i: w for w, i in position.items()}  # weights, and what is a view of one
    out: dict[str, str] = {}
    for i, op in enumerate(program.ops):
        if op.backward or not op.inputs:
            continue
        mine = [leaf[j] for j in op.inputs if j in leaf]
        latest = max((last[j] for j in op.inputs if j in last), key=position.__getitem__, default="")
        if len(op.inputs) == len(mine) == 1:
            leaf[i] = mine[0]
            continue
        for w in mine:
            if op.rule != "add" and w not in out and w != latest and not _leads(out, latest, w):
                out[w] = latest
                latest = w
        if latest or mine:
            last[i] = latest or mine[-1]
    return {w: v for w, v in out.items() if v}


def _leads(out: Mapping[str, str], to: str, weight: str) -> bool:
    """Is a weight already on the path to another (used twice)?"""
    while to:
        if to == weight:
            return True
        to = out.get(to, "")
    return False


def init(weight: str, on: Mapping[str, str]) -> Scale:
    """The formal init of a weight."""
    start = Scale.of(PATH + on[weight], -1) if weight in on else ONE
    return start * Scale.of(PATH + weight)


def with_paths(values: Mapping[str, Scale], on: Mapping[str, str]) -> dict[str, Scale]:
    """Values of inits, and with them those of the paths."""
    out = {u: v for u, v in values.items() if not u.startswith(PATH)}

    def fill(weight: str) -> Scale:
        chain = [weight]
        while chain[-1] in on and PATH + on[chain[-1]] not in out:
            chain.append(on[chain[-1]])
        for w in reversed(chain):
            out[PATH + w] = values.get(INIT + w, ONE) * (out[PATH + on[w]] if w in on else ONE)
        return out[PATH + weight]

    for u in values:
        if u.startswith(INIT):
            fill(u.removeprefix(INIT))
    return out


def in_inits(size: Scale, on: Mapping[str, str]) -> Scale:
    """A formal size told by the inits."""
    out = Scale(tuple((u, e) for u, e in size.powers if not u.startswith(PATH)), size.logs)
    for u, e in size.powers:
        weight = u.removeprefix(PATH) if u.startswith(PATH) else ""
        while weight:
            out = out * Scale.of(INIT + weight, e)
            weight = on.get(weight, "")
    return out


def shift_of_inits(vector: Mapping[str, Fraction], on: Mapping[str, str]) -> dict[str, Fraction]:
    """How inits and all else shift where paths do: an init as its path, less as the one before."""
    out = {u: e for u, e in vector.items() if not u.startswith(PATH)}
    for u, e in vector.items():
        if u.startswith(PATH):
            out[INIT + u.removeprefix(PATH)] = out.get(INIT + u.removeprefix(PATH), Fraction(0)) + e
    for w, v in on.items():
        if e := vector.get(PATH + v):
            out[INIT + w] = out.get(INIT + w, Fraction(0)) - e
    return {u: e for u, e in out.items() if e}


__all__ = ["before", "in_inits", "init", "shift_of_inits", "with_paths"]
