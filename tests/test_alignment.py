"""Alignments that are assumed or measured: what is put in comes out, on record as an assumption; nothing else changes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from scalecalc.cli import main
from scalecalc.derive import derive
from scalecalc.errors import InputError
from scalecalc.report.json import to_json
from scalecalc.scale import Scale
from scalecalc.solve import solve

N, ONE, HALF = Scale.of("N"), Scale.one(), Fraction(1, 2)
SP = {"parameterization": "sp", "optimizer": "adam"}


def test_initial_sizes_and_gradients_are_derived_under_any_policy() -> None:
    tables = [derive("mlp", alignment=a, **SP) for a in ("derived", "full", "none")]
    kept = [{r.key: r.terms for r in t if r.kind in ("weight", "init", "gradient", "alignment")} for t in tables]
    assert kept[0] == kept[1] == kept[2]


def test_full_makes_the_readout_incoherent_with_what_moved_and_none_the_updates_too() -> None:
    """Under SP with rates of one: f by W_2 is W_out·Δh2, N^(1/2) of |Δh2| = N if derived, 1 if ω = 1/2."""
    size = {a: derive("mlp", alignment=a, **SP) for a in ("derived", "full", "none")}
    assert {a: set(t["h2", "update", "W_2"].terms) for a, t in size.items()} == {
        "derived": {N}, "full": {N}, "none": {N**HALF}
    }  # fmt: skip
    assert {a: set(t["f", "update", "W_2"].terms) for a, t in size.items()} == {
        "derived": {N ** Fraction(3, 2)}, "full": {N}, "none": {N**HALF}
    }  # fmt: skip
    assert {a: set(t["f", "update", "W_out"].terms) for a, t in size.items()} == {
        "derived": {N}, "full": {N}, "none": {N**HALF}
    }  # fmt: skip


def test_the_assumption_is_on_record() -> None:
    table = derive("mlp", alignment="full", **SP)
    text = str(table.explain("f", tag="W_2"))
    assert "alignment full: W₀ Δz, ω = 1/2 (Everett et al. 2024)" in text
    assert any("assumed, not derived: full" in note for note in table.notes)
    assert table.options["alignment"] == "full"
    found = solve("mlp", alignment="full", **SP)
    assert any("assumed, not derived: full" in note for note in found.notes)
    assert not any("assumed" in note for note in derive("mlp", **SP).notes)


def measured(path: Path, changes: dict[str, dict[str, tuple[float, float]]], verdict: str = "disagrees") -> str:
    """The JSON of a verify run that measured some sums so; the others as derived."""
    found: dict[str, Any] = json.loads(to_json(derive("mlp", **SP)))
    for row in (r for r in found["rows"] if r["kind"] == "alignment"):
        own = changes.get(row["row"])
        derived = {"N": (float(Fraction(row["theta"].get("N", "0"))),) * 2}
        slopes = {dim: {"slope": sum(x) / 2, "low": x[0] - 0.01, "high": x[1] + 0.01} for dim, x in (own or derived).items()}
        row.update(measured=slopes, verdict=verdict if own else "agrees")
    path.write_text(json.dumps(found))
    return str(path)


SUM = "⟨W_2, relu(h1)⟩"


def test_a_measured_sum_takes_the_place_of_the_derived_one(tmp_path: Path) -> None:
    """W_2 relu(h1) measured as aligned makes h2 larger by N^(1/2), and so all that comes after; one multiple of 1/4 fits."""
    file = measured(tmp_path / "m.json", {SUM: {"N": (-0.04, 0.05)}})
    table, plain = derive("mlp", alignment=file, **SP), derive("mlp", **SP)
    assert set(table["h1"].terms) == set(plain["h1"].terms)
    assert set(table["h2"].terms) == {N**HALF}
    assert set(table[SUM, "alignment"].terms) == {ONE}
    assert any("the cosine of ⟨W_2, relu(h1)⟩ is 1, as measured." in note for note in table.notes)
    assert "alignment m.json: the cosine of ⟨W_2, relu(h1)⟩ is 1 as measured" in str(table.explain("h2"))


@pytest.mark.parametrize(
    ("interval", "expected", "said"),
    [
        ((-0.26, -0.24), "-1/4", ""),
        ((-0.38, -0.36), "-37/100", "no multiple of 1/4 lies between -0.390 and -0.350, so the centre -37/100"),
        ((-0.60, -0.20), "-2/5", "several multiples of 1/4 lie between -0.610 and -0.190, so the centre -2/5"),
    ],
)
def test_a_measured_exponent_is_snapped_only_where_it_is_unambiguous(
    interval: tuple[float, float], expected: str, said: str, tmp_path: Path
) -> None:
    table = derive("mlp", alignment=measured(tmp_path / "m.json", {SUM: {"N": interval}}), **SP)
    assert set(table["h2"].terms) == {N ** (HALF + Fraction(expected))}
    assert any(said in note for note in table.notes if SUM in note)
    assert ("centre" in " ".join(table.notes)) == bool(said)


def test_what_was_measured_as_derived_stays_derived(tmp_path: Path) -> None:
    file = measured(tmp_path / "m.json", {SUM: {"N": (-0.52, -0.48)}}, verdict="agrees")
    table, plain = derive("mlp", alignment=file, **SP), derive("mlp", **SP)
    assert [(r.key, r.terms) for r in table] == [(r.key, r.terms) for r in plain]
    assert any("every alignment that it has was measured as derived" in note for note in table.notes)


def test_a_measurement_that_diverged_is_not_used(tmp_path: Path) -> None:
    file = measured(tmp_path / "m.json", {SUM: {"N": (float("-inf"), float("inf"))}})
    table = derive("mlp", alignment=file, **SP)
    assert set(table["h2"].terms) == {ONE}
    assert any("not measured well enough to be used" in note for note in table.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is neither a name nor a file; write derived, full, none, or a file made by scalecalc verify"),
        ("{", "is no table of scalecalc's in JSON"),
        ("[]", "is no table of scalecalc's in JSON"),
        ('{"rows": []}', "has no measured alignments"),
        (
            '{"rows": [{"kind": "alignment", "row": "⟨A, b⟩", "tag": [], "measured": {"N": {}}, "verdict": "disagrees"}]}',
            "has a sum ⟨A, b⟩ that mlp has not; it is of another model",
        ),
        (
            '{"rows": [{"kind": "alignment", "row": "⟨W_2, relu(h1)⟩", "measured": {"M": {}}, "verdict": "disagrees"}]}',
            "has slopes in M, which does not grow in mlp",
        ),
    ],
)
def test_what_is_no_alignment_is_one_clear_error(content: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        derive("mlp", alignment=str(file))


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["derive", "mlp"], ["solve", "mlp"], ["compare", "mlp", "sp"], ["explain", "mlp", "h2"]):
        assert main([*command, "--alignment", "full"]) == 0, command
    assert "assumed, not derived: full" in capsys.readouterr().out
    assert main(["derive", "mlp", "--alignment", "fool"]) == 2
    assert "neither a name nor a file" in capsys.readouterr().err
    assert main(["verify", "mlp", "--alignment", "full"]) == 2  # what is measured is held against what is derived
