"""Rows asked for by name, kind, tag and step."""

from __future__ import annotations

import pytest

from scalecalc.derive import derive
from scalecalc.errors import InputError, UnknownName
from scalecalc.table import Row, Table


def test_rows_by_name_kind_and_tag(derived: Table) -> None:
    assert derived["y"].kind == "init"
    assert derived["y", "update"].tag == ("W_B",)
    assert derived["y", "update", "W_C"].tag == ("W_C",)
    assert derived["<dy,u>", "alignment"].row == "<dy, u>"
    with pytest.raises(UnknownName, match="no row 'y, gradient'; rows of that name: y, "):
        _ = derived["y", "gradient"]
    with pytest.raises(UnknownName, match="no row 'yy, init'; similar names: y"):
        _ = derived["yy"]


def test_tags_of_several_weights_in_any_order(derived: Table) -> None:
    for tag in ("W_B+W_C", "W_C+W_B", "W_C + W_B"):
        assert derived["y", "update", tag].tag == ("W_B", "W_C")
    assert derive("s6")["y", "update", "W_in+W_in"].tag == ("W_in", "W_in")
    with pytest.raises(UnknownName, match=r"no row 'y, update by W_B\+W_B'"):
        _ = derived["y", "update", "W_B+W_B"]


def test_one_row_is_found_or_the_choice_is_named(derived: Table) -> None:
    assert derived.find("y").kind == "init"
    assert derived.find("y", tag="W_B", step=2).step == 2
    assert derived.find("W_B").kind == "weight"
    assert derived.find("u", "gradient").step == 1
    with pytest.raises(InputError, match=r"y has 2 update rows; say which step \(1, 2\)"):
        derived.find("y", tag="W_B")
    with pytest.raises(InputError, match=r"y has 4 update rows; say which tag \(W_B, W_C, W_B\+W_C\)"):
        derived.find("y", "update")


def test_a_message_stays_short_however_many_rows_there_are() -> None:
    rows = tuple(Row(f"layer{i}", "init", 0, ()) for i in range(500))
    with pytest.raises(UnknownName) as caught:
        _ = Table("deep", rows, ("N",))["leyer77"]
    assert "layer77" in str(caught.value)
    assert len(str(caught.value)) < 200
