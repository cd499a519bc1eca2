"""What all tests share: two small tables made by hand, and texts compared with files.

A snapshot is a plain text file under ``tests/snapshots``, compared exactly.  After a change that is meant:
``SCALECALC_UPDATE_SNAPSHOTS=1 ./dev test``, then read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

# Two pytest workers with a thread per core each would stand in each other's way; before torch and numpy are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from scalecalc.scale import Scale
from scalecalc.table import Row, Slope, Table, WeightScaling

settings.register_profile("scalecalc", deadline=None, print_blob=True)  # the machine is shared: no deadlines
settings.load_profile("scalecalc")

SNAPSHOTS = Path(__file__).parent / "snapshots"
ONE = Scale.one()
U, X = Scale.of("N_u"), Scale.of("N_x")


@pytest.fixture
def snapshot() -> Callable[[str, str], None]:
    """``snapshot(text, name)`` compares a text with ``tests/snapshots/name``."""

    def compare(text: str, name: str) -> None:
        file = SNAPSHOTS / name
        if os.environ.get("SCALECALC_UPDATE_SNAPSHOTS"):
            file.write_text(text, encoding="utf-8")
        assert file.exists(), f"no snapshot {name}; run with SCALECALC_UPDATE_SNAPSHOTS=1 and read it"
        assert text == file.read_text(encoding="utf-8")

    return compare


@pytest.fixture
def derived() -> Table:
    """A derived table: every kind, a log, incomparable terms, an exact zero, an entry that differs from the RMS."""
    rows = (
        Row("W_B", "weight", 0, (Scale.of("N_u", "-1/2"),), klass="vanishing"),
        Row("u", "init", 0, (ONE,), entry=(ONE,), klass="stable", why="relu keeps the size"),
        Row(
            "h",
            "init",
            0,
            (Scale.of("N_x", "-1/2"),),
            klass="vanishing",
            entry=(ONE,),
            profile="1/n along N_x",
            assumptions=("the mean of B·u is not zero", "a, b"),
        ),
        Row("y", "init", 0, (ONE,), klass="stable"),
        Row("u", "gradient", 1, (Scale.of("N_u", "-1"),), klass="vanishing"),
        Row("y", "update", 1, (Scale.log("N_x"),), tag=("W_B",), klass="exploding"),
        Row("y", "update", 1, (U * Scale.of("N_x", -1), X), tag=("W_C",), klass="exploding"),
        Row("y", "update", 2, (ONE,), tag=("W_B",), klass="learning"),
        Row("y", "update", 2, (), tag=("W_B", "W_C"), klass="lazy"),
        Row("<dy, u>", "alignment", 1, (Scale.of("N_u", "-1/2"),), statistic="cosine", klass="vanishing"),
    )
    scaling = {
        "W_B": WeightScaling(Scale.of("N_u", "-1/2"), ONE, Scale.of("N_u", -1), role="hidden"),
        "W_out": WeightScaling(Scale.of("N_u", -1), ONE, Scale.of("N_u", -1) * Scale.log("N_x", -1), role="readout"),
    }
    return Table(
        "s6", rows, ("N_u", "N_x"), parameterization=scaling, parameterization_name="mup_ssm", optimizer="adam"
    )


@pytest.fixture
def verified(derived: Table) -> Table:
    """The same table measured: every verdict, a diverged slope, a row that was not judged."""

    def slopes(u: float, x: float, half: float = 0.03) -> dict[str, Slope]:
        return {"N_u": Slope(u, u - half, u + half), "N_x": Slope(x, x - half, x + half)}

    nan, inf = float("nan"), float("inf")
    rows = list(derived.rows)
    rows[0] = rows[0].with_measurement({"N_u": Slope(-0.5, -0.502, -0.498)}, "agrees")
    rows[1] = rows[1].with_measurement(slopes(-0.001, 0.004), "agrees")
    rows[2] = rows[2].with_measurement(slopes(0.01, -0.49), "agrees")
    rows[3] = rows[3].with_measurement(slopes(0.0, 0.47), "disagrees", "N_x: 0.47 ±0.03 where 0 is derived")
    rows[4] = rows[4].with_measurement(
        {"N_u": Slope(nan, -inf, inf), "N_x": Slope(inf, inf, inf)}, "inconclusive", "nan"
    )
    rows[5] = rows[5].with_measurement(slopes(0.02, 0.23, 0.2), "inconclusive", "widths of N_x beyond 1024")
    rows[6] = rows[6].with_measurement(slopes(0.9, -0.95), "agrees")
    rows[9] = rows[9].with_measurement(slopes(-0.5, 0.0), "agrees")
    return replace(
        derived, command="verify", rows=tuple(rows), options={"seed": 0}, seconds=12.5, notes=("On the CPU.",)
    )
