"""Architectures and parameterizations from a user's files: what works, and one clear message for what does not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scalecalc import rule
from scalecalc.compare import compare
from scalecalc.derive import derive
from scalecalc.errors import InputError, ScalecalcError, UnknownName
from scalecalc.model import read_parameterization, resolve
from scalecalc.rule import registry
from scalecalc.scale import Scale

NET = '''
from scalecalc.program import Program
from scalecalc.rules.elementwise import tanh
from scalecalc.rules.matmul import matmul


def net(layers: int = 1):
    """A network of one's own."""
    p = Program("net", dims=("N",), fixed={"batch": 2, "in": 4})
    h = matmul(p.weight("W_in", "N in"), p.input("x", "batch in"))
    for i in range(layers):
        h = matmul(p.weight(f"W_{i}", "N N'"), tanh(h))
    h = p.feature("h", h)
    p.end(p.feature("f", matmul(p.weight("w", "N"), h)))
    return p


def broken():
    return 1 / 0


def nothing():
    return 3


def strange():
    p = Program("strange", dims=("N",))
    x = p.record("fold", (p.weight("w", "N"),), ("N",))
    p.end(p.feature("f", x))
    return p


def cut(share: float = 1.0):
    return net(layers=round(4 * share))
'''


@pytest.fixture
def net(tmp_path: Path) -> str:
    file = tmp_path / "net.py"
    file.write_text(NET)
    return f"{file}:"


def test_an_architecture_from_a_file(net: str) -> None:
    table = derive(f"{net}net:layers=2", optimizer="adam")
    assert table["h", "update", "W_in"].terms == (Scale.one(),)
    assert set(table.parameterization) == {"W_in", "W_0", "W_1", "w"}


def test_an_option_that_is_a_decimal_number(net: str) -> None:
    assert set(resolve(f"{net}cut:share=0.5").scalings) == {"W_in", "W_0", "W_1", "w"}


REGISTERED = NET + '''
from scalecalc.rule import architecture


@architecture("own net", parameterization="sp", optimizer="sgd", widths={"N": [8, 16]})
def own():
    """A small one."""
    return net()
'''


def test_a_file_that_registers_its_architecture_may_be_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing derives once per parameterization; the decorator's defaults hold, whichever way the function is named."""
    monkeypatch.setattr(rule, "_REGISTRY", {kind: dict(rule.registry(kind)) for kind in rule.KINDS})
    file = tmp_path / "own.py"
    file.write_text(REGISTERED)
    assert set(compare(f"{file}:own", "sp", "mup").tables) == {"sp", "mup"}
    found = resolve(f"{file}:own")
    assert (found.parameterization, found.optimizer, found.widths) == ("sp", "sgd", {"N": [8, 16]})
    assert (resolve(f"{file}:net").parameterization, resolve(f"{file}:net").optimizer) == ("mup", "adam")


def test_a_file_that_has_changed_is_read_again(net: str) -> None:
    file = Path(net.removesuffix(":"))
    assert "own" not in {entry.row for entry in derive(f"{net}net")}
    file.write_text(NET.replace('"W_in"', '"own"'))
    os.utime(file, ns=(1, 1))
    assert "own" in {entry.row for entry in derive(f"{net}net")}


def test_the_line_of_a_file_named_from_its_folder(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(net.removesuffix(":")).parent)
    with pytest.raises(InputError, match=r"net\.py, line 19: ZeroDivisionError"):
        derive("net.py:broken")


@pytest.mark.parametrize(
    ("model", "options", "title"),
    [
        ("mlp", {}, "mlp"),
        ("mlp:depth=3", {}, "mlp:depth=3"),
        ("mlp", {"depth": 3}, "mlp:depth=3"),
        ("mlp:depth=2,activation=relu", {"depth": 3}, "mlp:depth=3,activation=relu"),
        ("s6", {"gate": True}, "s6:gate=yes"),
    ],
)
def test_options_are_part_of_the_name(model: str, options: dict[str, object], title: str) -> None:
    """Else a table would not say what it is of, and samples of two models would meet in one resume file."""
    assert resolve(model, options=options).name == title


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("nett", UnknownName, "did you mean 'net'"),
        ("broken", InputError, r"net\.py, line 19: ZeroDivisionError"),
        ("nothing", InputError, "returns no program"),
        ("strange", InputError, None),
        ("net:layers=many", InputError, "no whole number"),
        ("cut:share=half", InputError, "cut:share=half is no finite number"),
        ("cut:share=nan", InputError, "no finite number"),
    ],
)
def test_a_file_that_does_not_do(net: str, name: str, error: type[Exception], words: str | None) -> None:
    from scalecalc.errors import MissingRule

    with pytest.raises(MissingRule if words is None else error, match=words or "no rule for the operation 'fold'"):
        derive(net + name)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        derive(f"{tmp_path}/absent.py:net")


MUP_TOML = """
["*"]
init = {N = "-1/2"}
lr = {N = "-1"}
[W_in]
[W_out]
init = {N = "-1"}
lr = {N = "-1"}
lr_log = {N = "-1"}
"""


def test_a_parameterization_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(MUP_TOML)
    found = resolve("mlp:depth=3", parameterization=str(file)).scalings
    assert found["W_in"].init == found["W_in"].lr == Scale.one()
    assert (found["W_2"].init, found["W_3"].lr) == (Scale.of("N", "-1/2"), Scale.of("N", "-1"))
    assert found["W_out"].lr == Scale.of("N", "-1") * Scale.log("N", "-1")
    assert derive("mlp", parameterization=str(file))["h2", "update", "W_2"].terms == (Scale.one(),)


def test_what_json_prints_reads_back(tmp_path: Path) -> None:
    table = derive("s6", parameterization="mup_ssm", optimizer="sgd")
    file = tmp_path / "again.json"
    file.write_text(json.dumps({"parameterization": json.loads(table.to_json())["parameterization"]}))
    found = read_parameterization(file, resolve("s6").program)
    for name, was in table.parameterization.items():
        assert (found[name].init, found[name].multiplier, found[name].lr) == (was.init, was.multiplier, was.lr)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[W_x]\n", "W_x matches no weight; the weights: W_in, W_2, W_out"),
        ("[W_in]\n", "says nothing of the weight W_2"),
        ('["*"]\ninit = {M = "1"}\n', r"maps dims \(N\) to exponents"),
        ('["*"]\ninit = {N = "import os"}\n', "no exponent"),
        ('["*"]\nrate = {N = "1"}\n', "takes the tables"),
        ("[[[", "is no TOML"),
        ('["*"]\ninit = "1"\n', "maps dims"),
    ],
)
def test_a_parameterization_file_that_does_not_do(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        resolve("mlp", parameterization=str(file))


def test_a_misspelt_argument_is_told_from_an_option() -> None:
    with pytest.raises(UnknownName, match="no option of s6 'optimiser'; did you mean 'optimizer'"):
        derive("s6", optimiser="sgd")
    with pytest.raises(UnknownName, match="did you mean 'parameterization'"):
        derive("mlp", parametrization="mup")
    with pytest.raises(UnknownName, match=r"mlp 'deph'; did you mean 'depth'\? Known: activation, depth, dropout\.$"):
        derive("mlp", deph="3")
    with pytest.raises(InputError, match="budget is no option of mlp but an argument of verify: --budget, or budget="):
        derive("mlp", budget=3)
    with pytest.raises(InputError, match="optimizer is no option of s6 but an argument of derive and verify"):
        derive("s6:optimizer=adam")


def test_a_file_that_registers_can_be_edited(tmp_path: Path) -> None:
    """In one process, a notebook say: what the file registered before the edit gives way; other names stay taken."""
    file = tmp_path / "mine.py"
    text = """
from scalecalc.asymptotics import x
from scalecalc.program import Program
from scalecalc.rules.elementwise import elementwise
from scalecalc.rules.matmul import matmul

own = elementwise("own_function", EXPRESSION)

def net():
    p = Program("net", dims=("N",), fixed={"batch": 4, "in": 8})
    h = p.feature("h", own(matmul(p.weight("W", "N in"), p.input("x", "batch in"))))
    p.end(matmul(p.weight("V", "out N"), h)) if "out" in p.fixed else p.end(h)
    return p
"""
    for k, expression in enumerate(("x**2", "x**3")):
        file.write_text(text.replace("EXPRESSION", expression))
        os.utime(file, ns=(k, k))
        resolve(f"{file}:net")
        assert str(registry("rule")["own_function"].expression) == expression
    file.write_text(text.replace("EXPRESSION", "x").replace("own_function", "relu"))
    os.utime(file, ns=(9, 9))
    with pytest.raises(ScalecalcError, match="registered twice"):
        resolve(f"{file}:net")
    assert "own_function" not in registry("rule")


# ---------------------------------------------------------------- optimizers


def test_an_optimizer_is_named_with_or_without_clipping() -> None:
    assert resolve("mlp", optimizer="sgd:clip=yes").update.joint
    assert not resolve("mlp", optimizer="sgd:clip=no").update.joint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sgd:clip", "write a name"),
        ("sgd+clip", r"sgd:clip=yes"),
        ("sgd:clip=maybe", "neither yes nor no"),
        ("sgd:beta=1", "no option of sgd"),
        ("adamm", "did you mean 'adam'"),
    ],
)
def test_a_wrong_optimizer_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve("mlp", optimizer=text)


def test_a_file_gives_decay_and_epsilon(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('["*"]\nlr = {N = "-1"}\nweight_decay = {N = 1}\nepsilon = {N = "-1/2"}\n')
    scalings = resolve("mlp", parameterization=str(file), optimizer="adamw").scalings
    assert {(str(s.weight_decay), str(s.epsilon)) for s in scalings.values()} == {("N", "N^(-1/2)")}
    assert resolve("mlp", optimizer="adamw").scalings["W_2"].weight_decay is Scale.one()
    assert resolve("mlp", optimizer="adam").scalings["W_2"].weight_decay is None


def test_a_solution_is_read_back_with_its_decay(tmp_path: Path) -> None:
    from scalecalc.report.solution import to_json
    from scalecalc.solve import solve

    found, file = solve("mlp", optimizer="adamw"), tmp_path / "solved.json"
    file.write_text(to_json(found))
    assert resolve("mlp", parameterization=str(file), optimizer="adamw").scalings == dict(found.scalings)


def test_the_same_rates_for_the_same_family() -> None:
    """Momentum takes SGD's published rates, Lion Adam's, and Adafactor's are relative to the weight."""
    names = ("sgd", "momentum", "adam", "lion", "adafactor")
    rates = {name: resolve("mlp", optimizer=name).scalings["W_2"].lr for name in names}
    assert rates["sgd"] is rates["momentum"]
    assert rates["adam"] is rates["lion"]
    assert str(rates["adafactor"]) == "N^(-1/2)"
