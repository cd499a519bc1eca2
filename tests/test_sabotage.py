"""Can verify fail?  Every rule's exponent is falsified in turn, and a row that depends on it must disagree.

One measurement per model is drawn and kept in a file; each falsified derivation is then held against it by the real
command, so nothing but the rule differs.  A false exponent is off by 1/2, as the wrong law would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from scalecalc import pattern, term, wick
from scalecalc.rule import registry
from scalecalc.scale import Scale
from scalecalc.table import Table
from scalecalc.term import FLAT, Profile, dim_of
from scalecalc.value import Value

pytestmark = pytest.mark.slow

HALF = Fraction(1, 2)
SMALL = {"dims": {"N_u": [32, 128], "N_x": [16, 64]}, "seeds": 96}
MODELS: dict[str, dict[str, Any]] = {
    "s6": SMALL,
    "mlp": {"dims": {"N": [64, 128, 256]}, "seeds": 96},
    "s6:discretization=mamba,step=fixed": SMALL,
}


def verify(model: str, optimizer: str, file: Path) -> Table:
    from scalecalc.measure.verify import verify as verify_table

    return verify_table(model, optimizer=optimizer, resume=file, **MODELS[model])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The file of one measurement per model and optimizer, drawn with the true rules, which nothing contradicts."""
    folder, files = tmp_path_factory.mktemp("samples"), dict[tuple[str, str], Path]()

    def get(model: str, optimizer: str) -> Path:
        if (model, optimizer) not in files:
            file = files[model, optimizer] = folder / f"{len(files)}.npz"
            assert verify(model, optimizer, file).counts()["disagrees"] == 0
        return files[model, optimizer]

    return get


def forget() -> None:
    """Empty the caches of the laws: they hold what the laws gave before."""
    for f in (*vars(pattern).values(), *vars(term).values(), *vars(wick).values()):
        if hasattr(f, "cache_clear"):
            f.cache_clear()


@pytest.fixture
def restored() -> Iterator[None]:
    """After a test that falsifies a law, nothing that it gave is left."""
    yield
    forget()


def blame(table: Table) -> list[str]:
    return [row.label for row in table if row.verdict == "disagrees"]


def falsified(name: str) -> Callable[..., Value]:
    """A rule's law, made too large by the square root of the first growing axis of what it returns (or of its input).

    A delay is falsified where it delays the states: a recurrence would refuse a decay that grows.
    """
    rule = registry("rule")[name]

    def law(algebra: Any, op: Any, labels: tuple[str, ...], *values: Value) -> Value:
        value = type(rule).law(rule, algebra, op, labels, *values)
        axes = [*labels, *(label for v in values for label in v.labels)]
        if not axes or (name == "delay" and op.name != "delay(h)"):
            return value
        by = Scale.of(dim_of(axes[0]), HALF)
        return replace(value, terms=tuple(replace(t, size=t.size * by) for t in value.terms))

    return law


S6_RULES = ("matmul", "contraction", "tanh", "rename", "recurrence", "delay", "sum", "add")


@pytest.mark.parametrize("name", S6_RULES)
def test_a_false_rule_is_found_in_s6(name: str, kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept("s6", "sgd")
    monkeypatch.setattr(registry("rule")[name], "law", falsified(name))
    assert blame(verify("s6", "sgd", file))


@pytest.mark.parametrize("name", ["matmul", "contraction", "relu"])
def test_a_false_rule_is_found_in_mlp(name: str, kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept("mlp", "sgd")
    monkeypatch.setattr(registry("rule")[name], "law", falsified(name))
    assert blame(verify("mlp", "sgd", file))


@pytest.mark.parametrize(
    ("model", "scheme", "false"),
    [("s6", "zoh", FLAT), ("s6:discretization=mamba,step=fixed", "mamba", Profile(Fraction(1)))],
)
def test_a_false_profile_is_found(
    model: str, scheme: str, false: Profile, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero-order hold taken for Euler, and the other way round."""
    from scalecalc import asymptotics

    file, true = kept(model, "sgd"), asymptotics.profile_of

    def profile_of(expression: Any) -> Profile:
        found = true(expression)
        return found if found.decaying or found.power < 0 else false

    monkeypatch.setattr(asymptotics, "profile_of", profile_of)
    assert any(label.startswith(("h", "y")) for label in blame(verify(model, "sgd", file)))


@pytest.mark.parametrize("model", ["s6", "mlp"])
def test_a_false_law_of_large_numbers_is_found(
    model: str, kept: Any, restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aligned sums taken for incoherent ones."""
    file = kept(model, "sgd")
    true = Profile.sum
    monkeypatch.setattr(Profile, "sum", lambda self, dim: true(self**2, dim) ** HALF)
    monkeypatch.setattr(Profile, "norm", lambda self, dim: true(self**2, dim) ** HALF)
    forget()
    assert blame(verify(model, "sgd", file))


@pytest.mark.parametrize("model", ["s6", "mlp"])
def test_a_false_central_limit_is_found(
    model: str, kept: Any, restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Incoherent sums taken for aligned ones."""
    file = kept(model, "sgd")
    monkeypatch.setattr(Profile, "norm", Profile.sum)
    forget()
    assert blame(verify(model, "sgd", file))


def test_missing_back_reaction_is_found(kept: Any, restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without W Wᵀ g ∋ g an update upstream of the layer looks harmless."""
    file = kept("s6", "sgd")
    monkeypatch.setattr(wick, "_may_meet", lambda a, b: False)
    forget()
    assert blame(verify("s6", "sgd", file))


@pytest.mark.parametrize("model", ["s6", "mlp"])
def test_adam_taken_for_sgd_is_found(model: str, kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's law without the division by each entry's own size."""
    file = kept(model, "adam")
    adam = type(registry("optimizer")["adam"].make())
    monkeypatch.setattr(adam, "law", lambda self, algebra, gradient: gradient)
    found = blame(verify(model, "adam", file))
    assert found
    assert all("update" in label for label in found)

