"""What is not saturated yet is a correction that falls slowly: allowed for where a fit is to refute, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from scalecalc import rulebook
from scalecalc.derive import interpret
from scalecalc.measure.assess import Claim, assess
from scalecalc.measure.slopes import Cell
from scalecalc.model import resolve
from scalecalc.saturation import saturating, slowest
from scalecalc.scale import FREE, Scale

rulebook.load()

ROOT = Scale.of("L", "1/2")
DEPTHS = (4, 8, 16, 32, 64)


def test_an_argument_that_grows_is_found_and_one_of_order_one_is_not() -> None:
    found = interpret(resolve("residual_depth", parameterization="mup", optimizer="sgd"), FREE)
    (sizes,) = saturating(found).values()
    assert sizes == (ROOT,)
    assert slowest([ROOT, Scale.of("N", 2)], ("N", "L")) == {"L": 0.5}
    for bounded in ("residual_depth", "residual_depth:norm=rms", "mlp"):
        assert not saturating(interpret(resolve(bounded, parameterization="completep", optimizer="sgd"), FREE))


def cells(sizes: Sequence[float]) -> list[Cell]:
    """A thousand seeds that scatter by a hundredth, at all depths."""
    rng = np.random.default_rng(5)
    return [Cell({"L": depth}, np.log(s) + 0.01 * rng.normal(size=1000)) for depth, s in zip(DEPTHS, sizes, strict=True)]


def stack(depth: int) -> float:
    """What enters the blocks h + W_2 tanh(W_1 h), root-mean-square, by mean field: |h|² gains E tanh(z)², z of size |h|."""
    z = np.linspace(-8, 8, 2001)
    weights = np.exp(-(z**2) / 2)
    squares = [1.0]
    for _ in range(depth - 1):
        squares.append(squares[-1] + float(np.tanh(z * squares[-1] ** 0.5) ** 2 @ weights / weights.sum()))
    return float(np.mean(squares)) ** 0.5


@pytest.mark.parametrize(("slow", "verdict"), [({}, "disagrees"), ({"L": 0.5}, "inconclusive")])
def test_what_has_not_saturated_yet_refutes_nothing(slow: dict[str, float], verdict: str) -> None:
    """Slopes of .36, .48, .54 and .56 on the way to 1/2, beside a known correction."""
    found, _ = assess(cells([stack(depth) for depth in DEPTHS]), Claim((ROOT,), (Scale.one(),), slow=slow), 1e-5, 0.05)
    assert found.verdict == verdict


@pytest.mark.parametrize("power", [0.2, 0.35, 0.7, 1.0])
def test_a_wrong_exponent_is_refuted_all_the_same(power: float) -> None:
    claim = Claim((ROOT,), (Scale.one(),), slow={"L": 0.5})
    found, _ = assess(cells([depth**power for depth in DEPTHS]), claim, 1e-5, 0.05)
    assert found.verdict == "disagrees"
