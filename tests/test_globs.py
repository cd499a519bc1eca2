"""Which of several patterns a name goes by."""

from __future__ import annotations

import pytest

from scalecalc.errors import InputError
from scalecalc.globs import chosen, idle


def test_the_most_specific_wins() -> None:
    patterns = {"*": 0, "layers.*": 1, "layers.*.weight": 2, "layers.0.weight": 3, "*.bias": 4}
    assert chosen(patterns, "layers.0.weight") == "layers.0.weight"
    assert chosen(patterns, "layers.1.weight") == "layers.*.weight"
    assert chosen(patterns, "layers.1.gain") == "layers.*"
    assert chosen(patterns, "head.bias") == "*.bias"
    assert chosen(patterns, "head.weight") == "*"
    assert chosen({"a.*": 1}, "b.weight") is None


def test_a_name_with_brackets_is_itself() -> None:
    assert chosen({"a[0]": 1}, "a[0]") == "a[0]"
    assert idle(["a[0]"], ["a[0]"]) == []


def test_equally_specific_patterns_must_agree() -> None:
    assert chosen({"a.*.b": 1, "a.?.b": 1}, "a.0.b") in ("a.*.b", "a.?.b")
    with pytest.raises(InputError, match=r"match a\.0\.b equally well"):
        chosen({"a?0?b*": 1, "*a.0*b": 2, "*.0.b": 3, "a.0.*": 4}, "a.0.b")


def test_case_counts() -> None:
    assert chosen({"w_*": 1}, "W_in") is None
    assert idle(["w_*", "W_*"], ["W_in"]) == ["w_*"]
