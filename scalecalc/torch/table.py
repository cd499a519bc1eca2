"""What every parameter really gets: read off the optimizer, not off what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from scalecalc.errors import UnknownName
from scalecalc.model import optimizer_of
from scalecalc.numbers import OPTION, WORDS, Growth, off_path
from scalecalc.parameterization import Parameterization
from scalecalc.report.layout import Section
from scalecalc.torch.gauge import without_multipliers
from scalecalc.torch.initialize import rms
from scalecalc.torch.names import Names, listed, named, places, together
from scalecalc.torch.shapes import Base, growth

if TYPE_CHECKING:
    import pandas

Groups = torch.optim.Optimizer | Iterable[Mapping[str, Any]]
FAMILIES = {  # of torch's optimizers: whose rates apply to each
    "SGD": "sgd", "Adam": "adam", "AdamW": "adam", "NAdam": "adam", "RAdam": "adam", "Adamax": "adam", "RMSprop": "adam",
    "Adafactor": "adafactor", "Muon": "muon",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One parameter.

    Args:
        name: its names, if it is tied.
        weight: which weight of the parameterization it is; empty if it is left as it is.
        std: root-mean-square of its entries now; None on the meta device.
        multiplier: what has been moved into init and rate, relative to base.
        lr: its rate; None if it is not trained.
        remark: frozen, not in the optimizer, or nothing.
    """

    name: str
    shape: tuple[int, ...]
    weight: str
    std: float | None
    multiplier: float
    lr: float | None
    weight_decay: float | None
    epsilon: float | None
    remark: str = ""


@dataclass(frozen=True)
class Settings:
    """A line per parameter; printed, a table.

    ``notes``: what is not as the parameterization has it: another optimizer; weight decay or ε that should scale.
    """

    title: str
    rows: tuple[Setting, ...]
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Setting]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Setting:
        """By one of its names.

        Raises:
            UnknownName: no parameter is called that.
        """
        found = {own: row for row in self.rows for own in row.name.split(", ")}
        if name not in found:
            raise UnknownName("parameter", name, found)
        return found[name]

    def __str__(self) -> str:
        from scalecalc.report.terminal import draw

        section = self._section()
        return draw(self.title, [(section, section)], self.notes, width=140)

    def _section(self) -> Section:
        columns = {
            "parameter": lambda r: r.name,
            "shape": lambda r: "×".join(map(str, r.shape)),
            "weight": lambda r: r.weight or "as it is",
            "std": lambda r: _number(r.std),
            "multiplier": lambda r: _number(r.multiplier),
            "rate": lambda r: _number(r.lr),
            "decay": lambda r: _number(r.weight_decay),
            "ε": lambda r: _number(r.epsilon),
            "": lambda r: r.remark,
        }
        optional = {"multiplier": 1.0, "decay": None, "ε": None, "": ""}
        kept = {
            title: cell
            for title, cell in columns.items()
            if title not in optional or any(cell(r) not in ("", _number(optional[title]) if title else "") for r in self)
        }
        rows = tuple(tuple(cell(row) for cell in kept.values()) for row in self)
        return Section("What every parameter gets", tuple(kept), rows, tight=frozenset({"parameter"}))

    def to_pandas(self) -> pandas.DataFrame:
        """A line per parameter."""
        import pandas

        return pandas.DataFrame([asdict(row) for row in self.rows])


def table(
    model: nn.Module,
    parameterization: Parameterization,
    optimizer: Groups,
    *,
    base: Base,
    names: Names | None = None,
    widths: Mapping[str, int] | None = None,
) -> Settings:
    """Every parameter with its shape, weight, measured size, rate, weight decay and ε.

    Args:
        optimizer: of which the rates are read as they are now; or parameter groups.
        base, names, widths: see :func:`scalecalc.torch.param_groups`.

    Raises:
        InputError: as :func:`scalecalc.torch.param_groups`.
    """
    placed = {id(p.parameter): p for p in places(model, parameterization, names)}
    grown = growth(model, parameterization, list(placed.values()), base, widths)
    groups = optimizer.param_groups if isinstance(optimizer, torch.optim.Optimizer) else list(optimizer)
    group_of = {id(parameter): group for group in groups for parameter in group["params"]}
    known = named(model)
    rows: list[Setting] = []
    for identity, own in together(known).items():
        parameter, place, group = known[own[0]], placed.get(identity), group_of.get(identity)
        weight = (place.weight or "") if place is not None else ""
        got = [_float((group or {}).get(key)) for key in ("lr", "weight_decay", "eps")]
        remark = "" if group is not None else "not in the optimizer" if parameter.requires_grad else "frozen"
        multiplier = grown.factor(parameterization[weight].multiplier) if weight else 1.0
        std = None if parameter.is_meta else rms(parameter)
        rows.append(Setting(", ".join(own), tuple(parameter.shape), weight, std, multiplier, *got, remark))
    name = type(optimizer).__name__ if isinstance(optimizer, torch.optim.Optimizer) else "parameter groups"
    title = f"parameterization {parameterization.name} for {parameterization.optimizer}, {name}"
    own = optimizer.defaults if isinstance(optimizer, torch.optim.Optimizer) else {}
    unscaled = _unscaled(rows, without_multipliers(parameterization), grown, own)
    notes = (*off_path(parameterization, grown), *_mistaken(name, parameterization), *unscaled)
    return Settings(title, tuple(rows), notes)


def _mistaken(torchs: str, parameterization: Parameterization) -> Iterator[str]:
    """Rates that were solved for another kind of optimizer."""
    meant = optimizer_of(parameterization.optimizer).family
    if FAMILIES.get(torchs, meant) != meant:
        yield (
            f"the rates scale as {parameterization.optimizer} needs it, but the optimizer is {torchs}: solve with "
            f"optimizer={FAMILIES[torchs]!r} or one of its kind."
        )


def _unscaled(
    rows: Sequence[Setting], parameterization: Parameterization, grown: Growth, own: Mapping[str, Any]
) -> Iterator[str]:
    """Weight decay and ε that are the optimizer's own, one for all, where they should scale."""
    for quantity, option in OPTION.items():
        number = _float(own.get(option))
        left: list[str] = []
        for row in rows:
            if row.weight and row.lr is not None and number and getattr(row, quantity) == number:
                scale = getattr(parameterization[row.weight], quantity)
                unknown = scale is None and quantity == "weight_decay"
                left += [row.name] if unknown or scale is not None and grown.factor(scale) != 1 else []
        if left:
            yield (
                f"{WORDS[quantity]} is the optimizer's own {number:g} at every width, but should scale for {listed(left)}: "
                f"give {option}={number:g} to param_groups, and solve for an optimizer that has it."
            )


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
