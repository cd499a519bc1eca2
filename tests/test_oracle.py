"""The engine against the exact oracle: random small programs of Gaussian tensors, every pairing enumerated."""

from __future__ import annotations

from itertools import combinations

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import pairings, written

from scalecalc.program import Tensor

LEAVES = {
    "x": "N", "y": "N", "u": "M", "V": "N N'", "W": "M N", "X": "N M", "e": "E", "A": "E M", "T": "E M N",
}  # fmt: skip
SQUARE = ("x", "y", "V", "U")
SHAPES = {**LEAVES, "U": "N N'"}
MOST_AXES, MOST_FACTORS, MOST_PAIRINGS = 3, 5, 4000


@st.composite
def programs(draw: st.DrawFn, names: tuple[str, ...] = tuple(LEAVES), most: int = 6) -> str:
    """A program of two to six operations, as text; each operation is one of all that fit what stands before."""
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    axes = {name: tuple(SHAPES[name].split()) for name in chosen}
    degree = dict.fromkeys(chosen, 1)
    lines = [" ".join(f"{name}[{SHAPES[name]}]" for name in chosen)]
    for step in range(draw(st.integers(2, most))):
        last = f"t{step}" if step else None
        found = moves(axes, degree)
        if last and draw(st.booleans()):
            found = [move for move in found if last in move[0].split()]
        if not found:
            break
        expression, own, size = draw(st.sampled_from(found))
        name = f"t{step + 1}"
        axes[name], degree[name] = own, size
        lines.append(f"{name} = {expression}")
    assume(len(lines) > 1)
    return "; ".join(lines)


def moves(axes: dict[str, tuple[str, ...]], degree: dict[str, int]) -> list[tuple[str, tuple[str, ...], int]]:
    """All operations on the tensors at hand: as text, with the axes and the degree of what comes out."""
    out: list[tuple[str, tuple[str, ...], int]] = []
    names = list(axes)
    for i, a in enumerate(names):
        for b in names[: i + 1]:
            union = tuple(dict.fromkeys(axes[a] + axes[b]))
            shared = [label for label in axes[a] if label in axes[b]]
            if degree[a] + degree[b] <= MOST_FACTORS:
                for k in range(len(shared) + 1):
                    for over in combinations(shared, k):
                        left = tuple(label for label in union if label not in over)
                        if len(left) <= MOST_AXES:
                            out.append((f"{a} * {b} / {' '.join(over)}".rstrip(" /"), left, degree[a] + degree[b]))
            if a != b and len(union) <= MOST_AXES:
                out.append((f"{a} + {b}", union, max(degree[a], degree[b])))
        out += [(f"{a} / {label}", tuple(own for own in axes[a] if own != label), degree[a]) for label in axes[a]]
        if 2 * degree[a] <= MOST_FACTORS:
            out.append((f"{a} ** 2", axes[a], 2 * degree[a]))
        if 3 * degree[a] <= MOST_FACTORS:
            out.append((f"{a} ** 3", axes[a], 3 * degree[a]))
        if {"N", "N'"} <= set(axes[a]):
            swapped = {"N": "N'", "N'": "N"}
            out.append((f"{a} | N>N' N'>N", tuple(swapped.get(label, label) for label in axes[a]), degree[a]))
        elif "N" in axes[a]:
            out.append((f"{a} | N>N'", tuple("N'" if label == "N" else label for label in axes[a]), degree[a]))
        elif "N'" in axes[a]:
            out.append((f"{a} | N'>N", tuple("N" if label == "N'" else label for label in axes[a]), degree[a]))
    return out
