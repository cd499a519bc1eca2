"""A user's own source lines with the derived sizes beside them.

Every operation of a traced module knows the line that it comes from.  A line is given the sizes of what it ends with: at
initialisation, and by the first update of that weight which changes it most.  Where a line runs several times (a loop over
time, a module used twice) it has all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalecalc.derive import Derivation, interpret
from scalecalc.errors import InputError
from scalecalc.model import TorchModule, resolve
from scalecalc.program import LEAVES
from scalecalc.scale import Regime, Scale

Line = tuple[str, int]
AROUND = 1  # lines of source before the first and after the last one that has a size


@dataclass(frozen=True)
class Sizes:
    """What a line ends with: sizes at initialisation, by updates, and whose update is the largest."""

    init: tuple[Scale, ...]
    update: tuple[Scale, ...]
    by: str


def annotate(
    model: str | TorchModule,
    *,
    parameterization: Any = None,
    optimizer: str | None = None,
    regime: str = "free",
    loss: str = "linear",
    fix: Mapping[str, int] | None = None,
) -> str:
    """The source of a torch module, line by line with sizes; arguments as :func:`scalecalc.derive`'s.

    Raises:
        InputError: the model is no torch module.
    """
    scheme = {"parameterization": parameterization, "optimizer": optimizer}
    resolved = resolve(model, **scheme, loss=loss, fix=fix, regime=regime)
    found = interpret(resolved, Regime.parse(regime, resolved.program.dims))
    lines = sizes_of(found)
    if not lines:
        raise InputError(f"{model} is no torch module of yours, so it has no source lines; see scalecalc derive {model}.")
    head = f"{resolved.name}: parameterization {resolved.parameterization}, optimizer {resolved.optimizer}"
    files = dict.fromkeys(file for file, _ in lines)
    return "\n\n".join([head, *(_source(file, {n: s for (f, n), s in lines.items() if f == file}) for file in files)])


def sizes_of(found: Derivation) -> dict[Line, Sizes]:
    """The sizes of every line that an operation of the forward pass comes from."""
    program, regime = found.model.program, found.algebra.regime
    ends: dict[Line, list[int]] = {}
    before: Line | None = None
    for i, op in enumerate(program.ops[: program.forward_length]):
        file, _, number = op.where.rpartition(":")
        if op.rule in LEAVES or not number.isdecimal() or not Path(file).is_file() or found.values[i] is None:
            continue
        line = file, int(number)
        own = ends.setdefault(line, [])
        if before == line and own:
            own[-1] = i  # the last of what the line does in one go
        else:
            own.append(i)
        before = line
    out: dict[Line, Sizes] = {}
    for line, positions in sorted(ends.items()):
        values = [v for i in positions if (v := found.values[i]) is not None]
        moved = [v for i in positions if (v := found.updated[i]) is not None]
        by = {w: regime.leading(s for v in moved for s in v.sizes((w,))) for w in found.updates}
        every = regime.leading(s for sizes in by.values() for s in sizes)
        whose = [w for w, sizes in by.items() if set(sizes) & set(every)]
        shown = ", ".join(whose[:2]) + (", …" if len(whose) > 2 else "")
        out[line] = Sizes(regime.leading(s for v in values for s in v.sizes()), every, shown)
    return out


def _source(file: str, sizes: Mapping[int, Sizes]) -> str:
    text = Path(file).read_text(encoding="utf-8").splitlines()
    first, last = max(1, min(sizes) - AROUND), min(len(text), max(sizes) + AROUND)
    cells = {n: (_formula(s.init), _formula(s.update) + (f" ({s.by})" if s.by else "")) for n, s in sizes.items()}
    wide = [max(len(title), *(len(c[k]) for c in cells.values())) for k, title in enumerate(("init", "update"))]
    rows = [(f"{'init':{wide[0]}}  {'update':{wide[1]}}", f"{Path(file).name}")]
    for number in range(first, last + 1):
        init, update = cells.get(number, ("", ""))
        rows.append((f"{init:{wide[0]}}  {update:{wide[1]}}", f"{number:4}  {text[number - 1]}"))
    return "\n".join(f"{left}  │ {right}".rstrip() for left, right in rows)


def _formula(sizes: Iterable[Scale]) -> str:
    found = [str(s) for s in sizes]
    return found[0] if len(found) == 1 else f"max({', '.join(found)})" if found else "0"
