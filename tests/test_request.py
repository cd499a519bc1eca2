"""What a user may type, and that what he may not type is refused with the form that is wanted."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalecalc.errors import InputError
from scalecalc.request import LARGEST_WIDTH, check_file, is_file, parse_dims, parse_model


@pytest.mark.parametrize(
    ("text", "name", "options", "file"),
    [
        ("s6", "s6", {}, None),
        (" s6 ", "s6", {}, None),
        ("s6:discretization=euler", "s6", {"discretization": "euler"}, None),
        ("s6: discretization = euler , heads=4", "s6", {"discretization": "euler", "heads": "4"}, None),
        ("a/b.py:block", "block", {}, "a/b.py"),
        ("a/b.py:block:heads=4", "block", {"heads": "4"}, "a/b.py"),
        (r"C:\nets\b.py:block", "block", {}, r"C:\nets\b.py"),
        ("odd.py:dir/b.py:block", "block", {}, "odd.py:dir/b.py"),
    ],
)
def test_models(text: str, name: str, options: dict[str, str], file: str | None) -> None:
    parsed = parse_model(text)
    assert (parsed.name, parsed.options, parsed.file) == (name, options, Path(file) if file else None)


@pytest.mark.parametrize(
    "text",
    ["", ":", "s6:", "s6:euler", "s6:=euler", "s6:a=", "s6:a=1,,b=2", "s6:a=1,a=2", "b.py", "b.py:", "b.py:x:", "6"],
)
def test_what_is_no_model(text: str) -> None:
    with pytest.raises(InputError):
        parse_model(text)


def test_dims() -> None:
    assert parse_dims([]) == {}
    assert parse_dims(["N_u=64:1024"]) == {"N_u": [64, 128, 256, 512, 1024]}
    assert parse_dims(["N_u=100:600"]) == {"N_u": [128, 256, 512]}
    assert parse_dims([" N_u = 96, 64 ", "L=1:2"]) == {"N_u": [64, 96], "L": [1, 2]}
    assert parse_dims([f"N={LARGEST_WIDTH // 2}:{LARGEST_WIDTH}"]) == {"N": [LARGEST_WIDTH // 2, LARGEST_WIDTH]}


WRONG_DIMS = [
    "N_u",
    "N_u=",
    "=64:128",
    "N u=64:128",
    "N_u=64:128:256",
    "N_u=0:64",
    "N_u=-4,8",
    "N_u=1:2097152",
    "N_u=8," + "9" * 999,
    "N_u=64,1e3",
    "N_u=64,65.5",
    "N_u=64,,128",
    "N_u=64,64",
    "N_u=64",
    "N_u=64:64",
    "N_u=65:100",
    "N_u=128:64",
    "N_u=64:128,N_x=8:16",
]


def test_wrong_dims_are_explained(snapshot) -> None:
    lines = []
    for texts in [*([text] for text in WRONG_DIMS), ["N_u=64:128", "N_u=32:64"]]:
        with pytest.raises(InputError) as caught:
            parse_dims(texts)
        lines.append(f"{' '.join(texts)[:40]}\n    {caught.value}\n")
    snapshot("".join(lines), "dims_errors.txt")


@given(st.text(alphabet="N_u=0123456789:,.- é²", max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (parse_model, lambda t: parse_dims([t]), lambda t: parse_dims([f"N={t}"])):
        with contextlib.suppress(InputError):
            parse(text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert is_file("p.toml")
    assert not is_file("mup_ssm")
    (tmp_path / "p.toml").touch()
    check_file(tmp_path / "p.toml", "of the parameterization")
    with pytest.raises(InputError, match="no file"):
        check_file(tmp_path / "q.toml", "of the parameterization")
    with pytest.raises(InputError, match="folder"):
        check_file(tmp_path, "of the model")
