"""A parameterization on a real torch model: groups, initial weights, multipliers, and what wrappers make of them."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
import torch
from nets import MLP_NAMES, S6_NAMES, Perceptron, Selective
from torch import nn

import scalecalc as sc
from scalecalc.errors import InputError, UnknownName
from scalecalc.parameterization import Parameterization
from scalecalc.scale import Regime, Scale
from scalecalc.solution import Solution
from scalecalc.table import WeightScaling

ONE, N = Scale.one(), Scale.of("N")
HALF = Fraction(1, 2)


@cache
def mup() -> Parameterization:
    """What ``solve`` gives for the perceptron and Adam, without waiting for it."""
    return sc.parameterize("mlp", "mup", optimizer="adam", depth=3)


def made(build: Callable[[], nn.Module], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return build()


def perceptron(width: int, seed: int = 0) -> Any:
    return made(lambda: Perceptron(width), seed)


def rates(groups: list[dict[str, Any]]) -> dict[str, float]:
    return {name: group["lr"] for group in groups for name in group["param_names"]}


def sizes(model: nn.Module) -> dict[str, float]:
    return {name: float(p.detach().double().square().mean().sqrt()) for name, p in model.named_parameters()}


def mine(**weights: WeightScaling) -> Parameterization:
    """Matrices W (N × N), embeddings and readouts by name, as scaled."""
    axes = {"W": ("N", "N"), "W_in": ("N", ""), "W_out": ("", "N"), "g": ("N",)}
    return Parameterization("mine", "adam", ("N",), weights, {w: axes[w] for w in weights})


LINEAR = mine(W=WeightScaling(N**-HALF, ONE, N**-1))


# ---------------------------------------------------------------- groups


def test_rates_are_ratios() -> None:
    groups = sc.torch.param_groups(perceptron(256), mup(), base=perceptron(64), lr=0.01, names=MLP_NAMES)
    assert rates(groups) == {
        "embed.weight": 0.01, "hidden.0.weight": 0.0025, "hidden.1.weight": 0.0025, "head.weight": 0.0025,
    }  # fmt: skip
    assert sorted(len(g["params"]) for g in groups) == [1, 3]
    assert all(set(g) == {"params", "lr", "param_names"} for g in groups)


@pytest.mark.parametrize("base", [{"N": 64}, "meta", "module"])
def test_base_as_widths_or_as_a_model(base: Any) -> None:
    if base == "meta":
        with torch.device("meta"):
            base = Perceptron(64)
    elif base == "module":
        base = perceptron(64)
    groups = sc.torch.param_groups(perceptron(256), mup(), base=base, lr=0.01, names=MLP_NAMES)
    assert rates(groups)["head.weight"] == 0.0025


def test_rates_and_decays_per_parameter() -> None:
    p = mine(W=WeightScaling(ONE, ONE, N**-1, weight_decay=N, epsilon=N**-1))
    model, base = nn.Linear(16, 16, bias=True), nn.Linear(4, 4, bias=True)
    names = {"weight": "W", "bias": None}
    given = {"lr": {"*": 0.1, "bias": 0.3}, "weight_decay": {"*": 0.0, "weight": 0.5}, "eps": 1e-8}
    groups = sc.torch.param_groups(model, p, base=base, names=names, **given)  # type: ignore[arg-type]
    found = {g["param_names"][0]: (g["lr"], g["weight_decay"], g["eps"]) for g in groups}
    assert found == {"weight": (0.025, 2.0, 2.5e-9), "bias": (0.3, 0.0, 1e-8)}
    with pytest.raises(InputError, match="weight_decay: head matches no parameter"):
        sc.torch.param_groups(model, p, base=base, names=names, lr=0.1, weight_decay={"head": 0.1, "*": 0.0})
    with pytest.raises(InputError, match="lr: nothing is given for bias"):
        sc.torch.param_groups(model, p, base=base, names=names, lr={"weight": 0.1})
    with pytest.raises(InputError, match="does not say how weight decay scales"):
        sc.torch.param_groups(model, LINEAR, base=base, names=names, lr=0.1, weight_decay=0.1)


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adafactor, torch.optim.Muon,
        lambda groups: torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True), torch.optim.NAdam,
    ],
)  # fmt: skip
def test_any_torch_optimizer_takes_them(make: Any) -> None:
    model = perceptron(128)
    groups = sc.torch.param_groups(model, mup(), base=perceptron(64), lr=0.01, names=MLP_NAMES)
    optimizer = make(groups)
    before = sizes(model)
    model(torch.randn(4, 16)).square().mean().backward()
    optimizer.step()
    assert {g["lr"] for g in optimizer.param_groups} == {0.01, 0.005}
    assert all(sizes(model)[name] != before[name] for name in before)
    twin = make(sc.torch.param_groups(copy.deepcopy(model), mup(), base={"N": 64}, lr=0.01, names=MLP_NAMES))
    twin.load_state_dict(optimizer.state_dict())
    assert [g["param_names"] for g in twin.param_groups] == [g["param_names"] for g in optimizer.param_groups]


def test_matrices_and_vectors_are_in_groups_of_their_own() -> None:
    model, base = nn.Linear(8, 8), nn.Linear(8, 8)
    groups = sc.torch.param_groups(model, LINEAR, base=base, lr=0.1, names={"weight": "W", "bias": None})
    assert [g["param_names"] for g in groups if g["params"][0].ndim == 2] == [["weight"]]


def test_at_base_width_training_is_adams_to_the_bit() -> None:
    ours, plain = perceptron(64), perceptron(64)
    x, y = made(lambda: torch.randn(8, 16)), made(lambda: torch.randn(8, 4), 1)
    sc.torch.initialize(ours, mup(), base=perceptron(64, seed=5), names=MLP_NAMES)
    groups = sc.torch.param_groups(ours, mup(), base=perceptron(64), lr=0.01, names=MLP_NAMES)
    pairs = ((ours, torch.optim.Adam(groups)), (plain, torch.optim.Adam(plain.parameters(), lr=0.01)))
    for model, optimizer in pairs:
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
    for (name, a), (_, b) in zip(ours.named_parameters(), plain.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(ours.head.weight, perceptron(64).head.weight)


# ---------------------------------------------------------------- which parameter is which weight


def test_by_its_own_name() -> None:
    model, base = (nn.ParameterDict({"W": torch.ones(n, n), "W_out": torch.ones(4, n)}) for n in (8, 2))
    p = mine(W=WeightScaling(ONE, ONE, N**-1), W_out=WeightScaling(ONE, ONE, ONE))
    assert rates(sc.torch.param_groups(model, p, base=base, lr=1.0)) == {"W": 0.25, "W_out": 1.0}


def test_patterns_and_what_is_left_as_it_is() -> None:
    names = {"hidden.*": "W_2", "hidden.1.*": "W_3", "*": None, "embed.*": "W_in"}
    groups = sc.torch.param_groups(perceptron(128), mup(), base=perceptron(64), lr=1.0, names=names)
    assert rates(groups) == {"embed.weight": 1.0, "hidden.0.weight": 0.5, "hidden.1.weight": 0.5, "head.weight": 1.0}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "does not mention embed.weight, hidden.0.weight, hidden.1.weight, head.weight.*None to leave it as it is"),
        ({**MLP_NAMES, "head.bias": None}, "head.bias matches no parameter; the parameters: embed.weight, "),
        ({**MLP_NAMES, "head.weight": "W_last"}, "no weight for head.weight 'W_last'; did you mean 'W_.*Known: W_2"),
        ({**MLP_NAMES, "head.weight": "W_in"}, "axis 0 of head.weight, 4 at base and 4 here.*not by|but not by axis 0"),
        ({**MLP_NAMES, "embed.weight": "W_out"}, "axis 0 of embed.weight, 64 at base and 128 here: but this axis of W_out"),
        ({**MLP_NAMES, "embed.weight": ("W_in", ("N",))}, "embed.weight has 2 axes \\(128, 16\\), but W_in"),
        ({**MLP_NAMES, "embed.weight": ("W_in", ("M", ""))}, "is said to have the axes"),
        ({**MLP_NAMES, "embed.weight": ("W_in", "N")}, "is said to have the axes 'N'"),
    ],
)
def test_names_that_are_refused(names: Any, message: str) -> None:
    with pytest.raises((InputError, UnknownName), match=message):
        sc.torch.param_groups(perceptron(128), mup(), base=perceptron(64), lr=1.0, names=names)


def test_axes_in_another_order() -> None:
    p = mine(W_in=WeightScaling(ONE, ONE, N**-1))
    small, large = nn.Embedding(10, 4), nn.Embedding(10, 8)
    with pytest.raises(InputError, match="its axes in another order"):
        sc.torch.param_groups(large, p, base=small, lr=1.0, names={"weight": "W_in"})
    groups = sc.torch.param_groups(large, p, base=small, lr=1.0, names={"weight": ("W_in", ("", "N"))})
    assert groups[0]["lr"] == 0.5
    kernels = [nn.Conv1d(n, n, 3, bias=False) for n in (4, 8)]
    groups = sc.torch.param_groups(kernels[1], LINEAR, base=kernels[0], lr=1.0, names={"weight": ("W", ("N", "N", ""))})
    assert groups[0]["lr"] == 0.5


def test_contradictory_shapes() -> None:
    small, large = nn.Linear(4, 4, bias=False), nn.Linear(8, 16, bias=False)
    with pytest.raises(InputError, match="N grows 4-fold by axis 0 of weight, 4 at base and 16 here, but not by axis 1"):
        sc.torch.param_groups(large, LINEAR, base=small, lr=1.0, names={"weight": "W"})
    with pytest.raises(InputError, match="axis 0 of weight has 16 entries and axis 1 of weight has 8"):
        sc.torch.param_groups(large, LINEAR, base={"N": 4}, lr=1.0, names={"weight": "W"})
    with pytest.raises(InputError, match="the base model has no parameter weight"):
        sc.torch.param_groups(large, LINEAR, base=nn.ReLU(), lr=1.0, names={"weight": "W"})
    with pytest.raises(InputError, match="there is no growing dim 'M'"):
        sc.torch.param_groups(large, LINEAR, base={"M": 4}, lr=1.0, names={"weight": "W"})
    with pytest.raises(InputError, match="does not say how wide N is there"):
        sc.torch.param_groups(nn.Linear(8, 8, bias=False), LINEAR, base={}, lr=1.0, names={"weight": "W"})
    with pytest.raises(InputError, match="widths= goes with widths at base"):
        sc.torch.param_groups(large, LINEAR, base=small, widths={"N": 4}, lr=1.0, names={"weight": "W"})


def test_an_axis_of_several_widths() -> None:
    """q, k and v in one matrix: 3 N rows; ratios are all that counts, unless a logarithm needs the width."""
    small, large = nn.Linear(8, 24, bias=False), nn.Linear(16, 48, bias=False)
    groups = sc.torch.param_groups(large, LINEAR, base=small, lr=1.0, names={"weight": "W"})
    assert groups[0]["lr"] == 0.5
    p = mine(W=WeightScaling(ONE, ONE, Scale.log("N", -1)))
    with pytest.raises(InputError, match="the width itself is needed"):
        sc.torch.param_groups(large, p, base=small, lr=1.0, names={"weight": "W"})
    groups = sc.torch.param_groups(large, p, base={"N": 8}, widths={"N": 16}, lr=1.0, names={"weight": "W"})
    assert groups[0]["lr"] == pytest.approx(3 / 4)


def test_a_dim_that_nothing_shows() -> None:
    p = Parameterization("p", "adam", ("N", "M"), {"W": WeightScaling(ONE, ONE, Scale.of("M"))}, {"W": ("N", "N")})
    small, large = (nn.Linear(n, n, bias=False) for n in (4, 8))
    for base in (small, {"N": 4}):
        with pytest.raises(InputError, match=r"weight \(W\) scales with M, of which nothing is known here"):
            sc.torch.param_groups(large, p, base=base, lr=1.0, names={"weight": "W"})
    groups = sc.torch.param_groups(large, p, base={"N": 4, "M": 2}, widths={"N": 8, "M": 6}, lr=1.0, names={"weight": "W"})
    assert groups[0]["lr"] == 3.0


def test_two_dims_and_a_logarithm() -> None:
    p = sc.parameterize("s6", "mup", optimizer="adam")
    logs = {w: WeightScaling(s.init, ONE, s.lr * Scale.log("N_x", -1) * Scale.of("N_x")) for w, s in p.items()}
    p = Parameterization("p", "adam", p.dims, logs, p.axes)
    groups = sc.torch.param_groups(Selective(64, 16), p, base=Selective(16, 4), lr=1.0, names=S6_NAMES)
    found = rates(groups)
    assert found["select_B.weight"] == pytest.approx(1 / 4 / 2 * 4)  # N_u^(-1) (log N_x)^(-1) N_x, log 16 = 2 log 4
    assert "A_log" not in found
    sc.torch.initialize(model := made(lambda: Selective(64, 16), 1), p, base=Selective(16, 4), names=S6_NAMES)
    assert torch.equal(model.A_log, Selective(64, 16).A_log)


def test_dims_that_grow_in_another_way_are_warned_of() -> None:
    given = sc.parameterize("s6", "mup", optimizer="adam")
    p = Solution("p", "adam", given.dims, given.scalings, given.axes, regime=Regime.parse("proportional"))
    base, more = Selective(16, 4), {"base": Selective(16, 4), "names": S6_NAMES}
    with pytest.warns(UserWarning, match="N_u 4-fold, N_x 1-fold: solve with --fix N_x=4"):
        groups = sc.torch.param_groups(wide := Selective(64, 4), p, lr=0.1, **more)  # type: ignore[arg-type]
    (note,) = sc.torch.table(wide, p, groups, **more).notes  # type: ignore[arg-type]
    assert "--fix N_x=4" in note
    for model in (Selective(64, 16), base):
        sc.torch.param_groups(model, p, lr=0.1, **more)  # type: ignore[arg-type]


class Tied(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Linear(width, width, bias=False)
        self.second = nn.Linear(width, width, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("mean", torch.zeros(width))


def test_tied_weights() -> None:
    p = mine(W=WeightScaling(N**-HALF, ONE, N**-1), W_in=WeightScaling(ONE, ONE, ONE))
    small, large = Tied(4), Tied(8)
    for names in ({"*": "W"}, {"first.weight": "W"}, {"first.weight": "W", "*": None}, {"second.weight": "W", "*": None}):
        (group,) = sc.torch.param_groups(large, p, base=small, lr=1.0, names=names)
        assert len(group["params"]) == 1
        assert group["lr"] == 0.5
    with pytest.raises(InputError, match=r"first.weight and second.weight are one parameter \(tied\), but as W and W_in"):
        sc.torch.param_groups(large, p, base=small, lr=1.0, names={"first.weight": "W", "second.weight": "W_in"})
    before = large.first.weight.clone()
    sc.torch.initialize(large, p, base=small, names={"first.weight": "W"})
    sc.torch.initialize(large, p, base=small, names={"*": "W"})
    wanted = sizes(small)["first.weight"] * 2**-0.5
    assert sizes(large)["first.weight"] == pytest.approx(wanted)  # scaled once, not once per name
    assert torch.allclose(large.first.weight / before, (large.first.weight / before)[0, 0])


def test_a_parameter_used_twice_is_there_once() -> None:
    layer = nn.Linear(8, 8, bias=False)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    (group,) = sc.torch.param_groups(model, LINEAR, base={"N": 4}, lr=1.0, names={"*.weight": "W"})
    assert group["params"] == [layer.weight]
    assert group["param_names"] == ["0.weight"]


def test_frozen_parameters_and_buffers() -> None:
    small, large = nn.BatchNorm1d(4), nn.BatchNorm1d(8)
    large.bias.requires_grad_(False)
    p = mine(g=WeightScaling(ONE, ONE, N))
    before = copy.deepcopy(large.state_dict())
    groups = sc.torch.param_groups(large, p, base=small, lr=1.0, names={"weight": "g"})  # bias: not mentioned, frozen
    assert rates(groups) == {"weight": 2.0}
    sc.torch.initialize(large, p, base=small, names={"weight": "g"})
    assert all(torch.equal(before[name], value) for name, value in large.state_dict().items())
    large.bias.requires_grad_(True)
    with pytest.raises(InputError, match="does not mention bias"):
        sc.torch.param_groups(large, p, base=small, lr=1.0, names={"weight": "g"})


def test_lazy_modules_are_refused() -> None:
    with pytest.raises(InputError, match="weight has no shape yet"):
        sc.torch.param_groups(nn.LazyLinear(8), LINEAR, base={"N": 4}, lr=1.0, names={"weight": "W", "bias": None})


# ---------------------------------------------------------------- initial weights


def test_initial_sizes() -> None:
    base, model = perceptron(64), perceptron(1024, seed=1)
    before = sizes(model)
    sc.torch.initialize(model, mup(), base=base, names=MLP_NAMES)
    old, new = sizes(base), sizes(model)
    assert new["embed.weight"] == pytest.approx(old["embed.weight"], rel=1e-6)
    assert new["hidden.0.weight"] == pytest.approx(old["hidden.0.weight"] / 4, rel=1e-6)
    assert new["head.weight"] == pytest.approx(old["head.weight"] / 16, rel=1e-6)
    assert new["hidden.0.weight"] == pytest.approx(before["hidden.0.weight"], rel=0.05)  # as torch has it already
    assert new["head.weight"] == pytest.approx(before["head.weight"] / 4, rel=0.2)  # torch: N^(-1/2), solved: N^(-1)


def test_initialize_at_base_width_does_nothing_to_the_bit() -> None:
    model = perceptron(64)
    before = copy.deepcopy(model.state_dict())
    sc.torch.initialize(model, mup(), base=perceptron(64, seed=7), names=MLP_NAMES)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_initialize_twice_is_once_to_the_bit(dtype: torch.dtype) -> None:
    base, model = perceptron(64).to(dtype), perceptron(192, seed=1).to(dtype)
    sc.torch.initialize(model, mup(), base=base, names=MLP_NAMES)
    once = copy.deepcopy(model.state_dict())
    assert not torch.equal(once["head.weight"], perceptron(192, seed=1).to(dtype).head.weight)
    sc.torch.initialize(model, mup(), base=base, names=MLP_NAMES)
    assert all(torch.equal(once[name], value) for name, value in model.state_dict().items())


class Mamba(nn.Module):
    """Weights and exact parameters as mamba has them."""

    def __init__(self, width: int, states: int = 4):
        super().__init__()
        self.proj = nn.Linear(width, width, bias=False)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(width, 1))
        self.dt_bias = nn.Parameter(torch.rand(width) - 5)
        self.D = nn.Parameter(torch.ones(width))
        self.zero = nn.Parameter(torch.zeros(width, width))


def test_zero_constant_and_exact_parameters_are_never_scaled() -> None:
    p = Parameterization(
        "p", "adam", ("N",),
        {"W": WeightScaling(N**-1, ONE, ONE), "D": WeightScaling(N**-1, ONE, ONE), "A": WeightScaling(N**-1, ONE, ONE)},
        {"W": ("N", "N"), "D": ("N",), "A": ("N", "")}, frozenset({"A"}),
    )  # fmt: skip
    base, model = Mamba(8), made(lambda: Mamba(16), 1)
    before = copy.deepcopy(model.state_dict())
    names = {"proj.weight": "W", "zero": "W", "D": "D", "A_log": "A", "dt_bias": None}
    sc.torch.initialize(model, p, base=base, names=names)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(before[name], value)]
    assert changed == ["proj.weight"]


def test_the_shape_of_the_distribution_is_kept() -> None:
    base, model = nn.Linear(8, 8, bias=False), nn.Linear(32, 32, bias=False)
    nn.init.orthogonal_(base.weight)
    nn.init.orthogonal_(model.weight)
    p = mine(W=WeightScaling(N**-1, ONE, ONE))
    sc.torch.initialize(model, p, base=base, names={"weight": "W"})
    gram = model.weight @ model.weight.T
    assert torch.allclose(gram, gram[0, 0] * torch.eye(32), atol=1e-5)
    assert float(gram[0, 0].detach()) == pytest.approx(1 / 4, rel=1e-5)  # (N^(-1) over N^(-1/2))²


def test_frozen_weights_are_initial_weights_like_others() -> None:
    base, model = nn.Linear(8, 8, bias=False), nn.Linear(32, 32, bias=False)
    model.weight.requires_grad_(False)
    sc.torch.initialize(model, mine(W=WeightScaling(N**-1, ONE, ONE)), base=base, names={"weight": "W"})
    assert sizes(model)["weight"] == pytest.approx(sizes(base)["weight"] / 4, rel=1e-5)


def test_complex_weights_and_empty_ones() -> None:
    base, model = (nn.ParameterDict({"W": made(lambda n=n: torch.randn(n, n, dtype=torch.complex64), n)}) for n in (8, 32))
    model["g"], base["g"] = torch.zeros(0), torch.zeros(0)
    p = mine(W=WeightScaling(N**-1, ONE, ONE), g=WeightScaling(ONE, ONE, ONE))
    p = replace(p, axes={**p.axes, "g": ("",)})
    sc.torch.initialize(model, p, base=base)
    once = model["W"].clone()
    assert float(once.detach().abs().square().mean().sqrt()) == pytest.approx(
        float(base["W"].detach().abs().square().mean().sqrt()) / 4, rel=1e-5
    )
    sc.torch.initialize(model, p, base=base)
    assert torch.equal(model["W"], once)


def test_initialize_refuses() -> None:
    p, names = LINEAR, {"weight": "W"}
    base, model = nn.Linear(8, 8, bias=False), nn.Linear(16, 16, bias=False)
    before = model.weight.clone()
    with pytest.raises(InputError, match="give a model as base=, not its widths"):
        sc.torch.initialize(model, p, base={"N": 8}, names=names)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="weight of the model is on the meta device"):
        sc.torch.initialize(nn.Linear(16, 16, bias=False, device="meta"), p, base=base, names=names)
    with pytest.raises(InputError, match="weight of the base model is on the meta device"):
        sc.torch.initialize(model, p, base=nn.Linear(8, 8, bias=False, device="meta"), names=names)
    with pytest.raises(InputError, match="the parameterization does not mention weight"):
        sc.torch.initialize(model, p, base=base)
    nn.init.zeros_(base.weight)
    with pytest.raises(InputError, match="weight is constant in the base model only"):
        sc.torch.initialize(model, p, base=base, names=names)
    nn.init.constant_(base.weight, float("nan"))
    with pytest.raises(InputError, match="not finite"):
        sc.torch.initialize(model, p, base=base, names=names)
    assert torch.equal(model.weight, before)


# ---------------------------------------------------------------- multipliers


class Multiplied(nn.Module):
    """A perceptron that multiplies its weights by m itself, one of them by plain use of the tensor."""

    def __init__(self, width: int, base: int, multipliers: dict[str, Scale], like: nn.Module | None = None):
        super().__init__()
        self.net = Perceptron(width).double()
        self.m = {name: s.at({"N": width}) / s.at({"N": base}) for name, s in multipliers.items()}
        if like is not None:
            self.net.load_state_dict(like.state_dict())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        net, m = self.net, self.m
        h = m["W_in"] * net.embed(x)
        h = m["W_2"] * (h.relu() @ net.hidden[0].weight.T)
        h = m["W_3"] * net.hidden[1](h.relu())
        return m["W_out"] * net.head(h.relu())


def trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    x = made(lambda: torch.randn(8, 16, dtype=torch.float64))
    y = made(lambda: torch.randn(8, 4, dtype=torch.float64), 1)
    for _ in range(10):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return model(x).detach()


Make = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
ADAM, DECAY = {"eps": 1e-4}, {"weight_decay": 0.05}
OPTIMIZERS: dict[str, tuple[Make, dict[str, float]]] = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (lambda groups: torch.optim.SGD(groups, momentum=0.9), {}),
    "adam": (torch.optim.Adam, ADAM),
    "adam_l2": (torch.optim.Adam, {**ADAM, **DECAY}),
    "adamw": (torch.optim.AdamW, {**ADAM, **DECAY}),
    "muon": (torch.optim.Muon, DECAY),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_multipliers_are_moved_into_init_and_rate(optimizer: str) -> None:
    """The same outputs after ten steps, whether the network multiplies its weights or nothing does."""
    make, extra = OPTIMIZERS[optimizer]
    ntp = sc.parameterize("mlp", "ntp", optimizer=optimizer, depth=3)
    # an ε and a decay that scale in some way of their own, so that nothing cancels
    added = {"epsilon": N**-1} if "eps" in extra else {}
    added |= {"weight_decay": N**HALF} if "weight_decay" in extra else {}
    p = replace(ntp, scalings={w: replace(s, **added) for w, s in ntp.items()})
    assert p["W_2"].multiplier is N**-HALF
    base, wide = (made(lambda n=n: Perceptron(n).double(), n) for n in (16, 64))
    lr = 0.05 if optimizer in ("sgd", "momentum") else 0.002

    def outputs(model: nn.Module, net: nn.Module, of: Parameterization) -> torch.Tensor:
        sc.torch.initialize(net, of, base=base, names=MLP_NAMES)
        groups = sc.torch.param_groups(net, of, base=base, lr=lr, names=MLP_NAMES, **extra)  # type: ignore[arg-type]
        return trained(model, make(groups))

    plain = copy.deepcopy(wide)
    ours = outputs(plain, plain, p)
    explicit = Multiplied(64, 16, {w: s.multiplier for w, s in p.items()}, like=wide)
    bare = replace(p, scalings={w: replace(s, multiplier=ONE) for w, s in p.items()})
    theirs = outputs(explicit, explicit.net, bare)
    # Muon's orthogonalisation is iterated in bfloat16
    assert torch.allclose(ours, theirs, rtol=2e-2 if optimizer == "muon" else 1e-9, atol=1e-12)
    wrong = copy.deepcopy(wide)
    assert not torch.allclose(outputs(wrong, wrong, bare), theirs, rtol=0.1)


def test_exponents_without_multipliers() -> None:
    for optimizer, power in (("sgd", 2), ("adam", 1)):
        ntp = sc.parameterize("mlp", "ntp", optimizer=optimizer)
        free = sc.torch.without_multipliers(ntp)
        assert all(s.multiplier is ONE for s in free.values())
        assert free["W_2"].init is ntp["W_2"].init * N**-HALF
        assert free["W_2"].lr is ntp["W_2"].lr * N ** (-HALF * power)
        assert sc.torch.without_multipliers(free) is free


def test_multipliers_that_cannot_be_moved() -> None:
    eps = sc.parameterize("mlp", "ntp", optimizer="adam_eps")  # an ε of order one, so that the size of gradients matters
    clipped = sc.parameterize("mlp", "ntp", optimizer="sgd:clip=yes")
    exact = sc.parameterize("mlp", "ntp", optimizer="sgd")
    decayed = replace(exact, scalings={w: replace(s, weight_decay=ONE) for w, s in exact.items()})
    for p, message in (
        (eps, "the multiplier of W_2 cannot be moved into its init and rate under adam_eps"),
        (clipped, "under sgd:clip=yes multipliers change the norm"),
        (replace(exact, exact=frozenset({"W_2"})), "W_2 cannot be moved .* since its initial entries are exact"),
        (decayed, "W_2 has a multiplier and a weight decay, of which sgd has none"),
    ):
        with pytest.raises(InputError, match=message):
            sc.torch.without_multipliers(p)
        with pytest.raises(InputError, match=message):
            sc.torch.param_groups(perceptron(128), p, base=perceptron(64), lr=0.1, names={"*": None, "hidden.0.*": "W_2"})


# ---------------------------------------------------------------- copies, wrappers, compilers


def test_copies_pickles_and_state_dicts() -> None:
    model, base = perceptron(128), perceptron(64)
    keys = list(model.state_dict())
    sc.torch.initialize(model, mup(), base=base, names=MLP_NAMES)
    assert list(model.state_dict()) == keys
    assert not vars(model).keys() - vars(Perceptron(8)).keys()
    assert all(not vars(p) for p in model.parameters())
    groups = sc.torch.param_groups(model, mup(), base=base, lr=0.01, names=MLP_NAMES)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        again = sc.torch.param_groups(twin, mup(), base=base, lr=0.01, names=MLP_NAMES)
        assert rates(again) == rates(groups)
        assert torch.equal(twin.head.weight, model.head.weight)
    fresh = perceptron(128, seed=9)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.head.weight, model.head.weight)


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="aot_eager")  # the default backend warns of what torch itself imports


@pytest.mark.parametrize("wrap", [compiled, nn.DataParallel, lambda m: compiled(nn.DataParallel(m))])
def test_wrappers_keep_names(wrap: Any) -> None:
    model = wrap(perceptron(128))
    groups = sc.torch.param_groups(model, mup(), base=wrap(perceptron(64)), lr=0.01, names=MLP_NAMES)
    assert rates(groups) == rates(
        sc.torch.param_groups(perceptron(128), mup(), base=perceptron(64), lr=0.01, names=MLP_NAMES)
    )


def test_a_compiled_model_trains_as_it_would() -> None:
    results: list[torch.Tensor] = []
    for wrap in (lambda m: m, compiled):
        model, base = perceptron(128), perceptron(64)
        sc.torch.initialize(model, mup(), base=base, names=MLP_NAMES)
        model = wrap(model)
        optimizer = torch.optim.Adam(sc.torch.param_groups(model, mup(), base=base, lr=0.01, names=MLP_NAMES))
        x = made(lambda: torch.randn(8, 16))
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        results.append(model(x).detach())
    assert torch.allclose(*results, rtol=1e-5)


SHARDED = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {tests!r})
import torch, torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from nets import MLP_NAMES, Perceptron
import scalecalc as sc
from scalecalc.errors import InputError

def run(rank, world, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=world)
    p = sc.parameterize("mlp", "mup", optimizer="adam", depth=3)
    x = torch.linspace(-1, 1, 8 * 16).reshape(8, 16)

    def train(kind):
        torch.manual_seed(0)
        base, model = Perceptron(32), Perceptron(64)
        if kind != "sharded":
            sc.torch.initialize(model, p, base=base, names=MLP_NAMES)
        where = dict(base=base)
        if kind == "sharded":
            for layer in (model.embed, *model.hidden, model.head, model):
                fully_shard(layer)
            sc.torch.initialize(model, p, base=base, names=MLP_NAMES)
            sc.torch.initialize(model, p, base=base, names=MLP_NAMES)
        if kind == "flat":
            model = FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
            try:
                sc.torch.param_groups(model, p, base=base, lr=0.01, names=MLP_NAMES)
                raise SystemExit("flat pieces were taken for whole parameters")
            except InputError as error:
                assert "flat pieces" in str(error), error
            where = dict(base=dict(N=32), widths=dict(N=64))
        if kind == "ddp":
            model = torch.nn.parallel.DistributedDataParallel(model)
        groups = sc.torch.param_groups(model, p, **where, lr=0.01, names=MLP_NAMES)
        optimizer = torch.optim.Adam(groups)
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return model(x).detach(), {{n: g["lr"] for g in groups for n in g["param_names"]}}

    plain, rates = train("plain")
    for kind in ("sharded", "ddp", "flat"):
        out, its = train(kind)
        assert its == rates, (kind, its, rates)
        assert torch.allclose(out, plain, rtol=1e-4, atol=1e-6), (kind, (out - plain).abs().max())
    dist.destroy_process_group()
    if rank == 0:
        print("the same")

if __name__ == "__main__":
    mp.spawn(run, (2, sys.argv[1]), nprocs=2)
"""


@pytest.mark.slow
def test_sharded_models_train_as_they_would(tmp_path: Any) -> None:
    """fully_shard, FullyShardedDataParallel and DistributedDataParallel, on two gloo processes of this machine."""
    file = tmp_path / "sharded.py"
    here = os.path.dirname(os.path.abspath(__file__))
    file.write_text(SHARDED.format(tests=here), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(here), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(file), str(tmp_path / "store")], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "the same", done.stdout + done.stderr


# ---------------------------------------------------------------- the table


def test_the_table_reads_the_optimizer() -> None:
    base, model = perceptron(64), perceptron(128)
    model.hidden[1].weight.requires_grad_(False)
    names = {**MLP_NAMES, "hidden.0.weight": None}
    groups = sc.torch.param_groups(model, mup(), base=base, lr=0.01, names=names)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.1)
    optimizer.param_groups[0]["lr"] = 0.123  # a schedule, say
    found = sc.torch.table(model, mup(), optimizer, base=base, names=names)
    first = optimizer.param_groups[0]["param_names"][0]
    assert found[first].lr == 0.123
    assert found["head.weight"].weight == "W_out"
    assert found["head.weight"].weight_decay == 0.1
    assert found["head.weight"].std == pytest.approx(sizes(model)["head.weight"])
    assert found["hidden.0.weight"].weight == ""
    assert (found["hidden.1.weight"].lr, found["hidden.1.weight"].remark) == (None, "frozen")
    assert list(found.to_pandas()["name"]) == [name for name, _ in model.named_parameters()]
    text = str(found)
    for part in ("hidden.1.weight", "128×128", "as it is", "frozen", "0.123", "W_out", "AdamW"):
        assert part in text
    with pytest.raises(UnknownName, match=r"no parameter 'head\.wait'; did you mean 'head\.weight'"):
        found["head.wait"]
    missing = sc.torch.table(model, mup(), groups[1:], base=base, names=names)
    assert missing[first].remark == "not in the optimizer"


def test_the_table_says_what_does_not_scale() -> None:
    p = mine(W=WeightScaling(ONE, ONE, N**-1, epsilon=N**-1))
    model, base = nn.Linear(8, 8, bias=False), nn.Linear(4, 4, bias=False)
    more: Any = {"base": base, "names": {"weight": "W"}}

    def notes(make: Any, **given: float) -> tuple[str, ...]:
        return sc.torch.table(model, p, make(sc.torch.param_groups(model, p, lr=0.1, **more, **given)), **more).notes

    (note,) = notes(torch.optim.Adam)
    assert note.startswith("ε is the optimizer's own 1e-08 at every width, but should scale for weight: give eps=1e-08 to")
    assert [n.split(" is ")[0] for n in notes(torch.optim.AdamW)] == ["weight decay", "ε"]
    assert notes(torch.optim.Adam, eps=1e-8) == ()
    assert notes(torch.optim.SGD) == (
        "the rates scale as adam needs it, but the optimizer is SGD: solve with optimizer='sgd' or one of its kind.",
    )
    assert notes(list) == ()


def test_the_table_has_multipliers() -> None:
    ntp = sc.parameterize("mlp", "ntp", optimizer="sgd", depth=3)
    model, base = perceptron(256), perceptron(64)
    groups = sc.torch.param_groups(model, ntp, base=base, lr=0.1, names=MLP_NAMES)
    found = sc.torch.table(model, ntp, groups, base=base, names=MLP_NAMES)
    assert found["hidden.0.weight"].multiplier == 0.5
    assert found["hidden.0.weight"].lr == 0.025
    assert "multiplier" in str(found)
    assert "multiplier" not in str(sc.torch.table(model, mup(), groups, base=base, names=MLP_NAMES))


# ---------------------------------------------------------------- the package


def test_torch_is_imported_on_use_only_and_not_hidden() -> None:
    code = (
        "import sys, scalecalc as sc; print('torch' in sys.modules, 'torch' in dir(sc), sc.torch.__name__)\n"
        "import torch; from scalecalc import *; print(torch.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True", "scalecalc.torch", "torch"], done.stderr


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
