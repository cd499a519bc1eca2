"""Published parameterizations, solved for: every cell that a solver can answer, exactly, or why it answers otherwise.

Sources: Everett et al. 2024 (arXiv 2407.05872), "maximal stable per-layer learning rates"; "On feature learning in structured
state space models" (NeurIPS 2024), below: the SSM paper, whose table of the S6 layer is reconstructed from what it states.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cases import S

from scalecalc.claims import unknowns_in
from scalecalc.errors import Contradiction
from scalecalc.linear import Constraint, Infeasible, System
from scalecalc.parameterization import Parameterization
from scalecalc.problem import Problem
from scalecalc.scale import Regime, Scale
from scalecalc.solution import Solution
from scalecalc.solve import solve

LAYERS = ("W_in", "W_2", "W_out")


def rates(found: Parameterization | None, weights: tuple[str, ...] = LAYERS) -> list[object]:
    assert found is not None
    return [found[w].lr for w in weights]


def sizes(text: str) -> list[object]:
    return [S(size) for size in text.split(", ")]


# ---------------------------------------------------------------------- Everett et al.: four parameterizations

# Order embedding, hidden, readout.  Full alignment, as they have it; and what is derived.
MAXIMAL = {
    ("sp", "sgd"): ("N^1/2, N^-1/2, N^-1", "1, N^-1, N^-1"),
    ("sp", "adam"): ("1, N^-1, N^-1", "N^-1/2, N^-3/2, N^-1"),
    ("sp", "adafactor"): ("1, N^-1/2, N^-1/2", "N^-1/2, N^-1, N^-1/2"),
    ("ntp", "sgd"): ("N^1/2, N^1/2, 1", "1, 1, 1"),
    ("ntp", "adam"): ("1, N^-1/2, N^-1/2", "N^-1/2, N^-1, N^-1/2"),
    ("ntp", "adafactor"): ("1, N^-1/2, N^-1/2", "N^-1/2, N^-1, N^-1/2"),
    ("mup_table9", "sgd"): ("1, 1, 1", "1, 1, 1"),
    ("mup_table9", "adam"): ("N^-1/2, N^-1, N^-1/2", "N^-1/2, N^-1, N^-1/2"),
    ("mup_table9", "adafactor"): ("1, N^-1/2, 1", "1, N^-1/2, 1"),
    ("mfp", "sgd"): ("N, N, N", "N, N, N"),
    ("mfp", "adam"): ("1, N^-1/2, 1", "1, N^-1/2, 1"),
    ("mfp", "adafactor"): ("1, N^-1/2, 1", "1, N^-1/2, 1"),
}


@pytest.mark.parametrize(("name", "optimizer"), MAXIMAL)
def test_the_maximal_stable_rates_of_everett_et_al(name: str, optimizer: str) -> None:
    """Published with α = u = 1 and ω = 1/2, and reproduced with these put in.

    Derived alignments give the same for muP and MFP.  For SP and NTK they give less: an update of a layer comes back through
    the readout, whose entries are therefore aligned with what it changes in the features (ω = 1).  At the published rates the
    output moves by N^(1/2) with every layer before the readout; measured in ``test_published`` (the readout is coherent with
    the updates before it).  In SP and NTK no layer before the readout then learns: its update is bound by the output alone.
    """
    full, derived = MAXIMAL[name, optimizer]
    found = solve("mlp", parameterization=name, optimizer=optimizer, alignment="full")
    assert rates(found) == rates(found.first) == sizes(full)
    assert set(found.fates.values()) == {"learning"}
    ours = solve("mlp", parameterization=name, optimizer=optimizer)
    assert rates(ours) == rates(ours.first) == sizes(derived)
    if full != derived:
        assert [ours.bounds[w, "lr"].rows for w in LAYERS[:2]] == [("f, update by W_in",), ("f, update by W_2",)]
        assert [ours.fates[w] for w in LAYERS] == ["learning further on", "learning further on", "learning"]


# α = u = ω = 1/2, Adam: the sums that updates make are √N large, so that rates may be larger by N^(1/2) where fan-in is N.
UNALIGNED = {"sp": "1, N^-1/2, N^-1/2", "ntp": "1, 1, 1", "mup_table9": "N^-1/2, N^-1/2, 1", "mfp": "1, 1, N^1/2"}


@pytest.mark.parametrize("name", UNALIGNED)
def test_without_alignment_rates_are_larger_by_the_root_of_the_width(name: str) -> None:
    assert rates(solve("mlp", parameterization=name, optimizer="adam", alignment="none")) == sizes(UNALIGNED[name])


# ---------------------------------------------------------------------- the S6 layer

# σ_B, σ_C, η_B, η_C.  G = |⟨dL/dy, u⟩|: N_u^(-1/2) with a readout at random entries 1/N_u, one after it has moved along y.
PAPER = ["rms h = 1", "y = 1"]  # ‖x‖₂ = Θ(N_x^(1/2)) per channel, y = Θ(1)
READOUT_LIKE = ["rms h = 1", "update h by W_B = 1", "update y by W_B = 1", "update y by W_C = 1"]
SELECTION = ("W_B", "W_C")
SETTINGS = {  # model, requirements, readout's size at initialisation
    "zoh": ("s6:step=fixed", PAPER, "f = N_u^-1/2"),
    "mamba": ("s6:step=fixed,discretization=mamba", READOUT_LIKE, "f = N_u^-1/2 N_x^-1/2"),
    "euler": ("s6:step=fixed,discretization=euler,transition=-1/2", READOUT_LIKE, "f = N_u^-1/2 N_x^-1/2"),
}
INITS = {"zoh": "N_x^1/2 N_u^-1/2, N_x^-1/2 N_u^-1/2"}
EULER_INITS = "N_u^-1/2, N_x^-1 N_u^-1/2"


def layer(scheme: str, optimizer: str) -> Solution:
    model, wanted, readout = SETTINGS[scheme]
    found = solve(model, optimizer=optimizer, require=[*wanted, readout])
    assert [found[w].init for w in SELECTION] == sizes(INITS.get(scheme, EULER_INITS))
    assert found["W_out"].init is S("N_u^-1")
    return found


def test_zero_order_hold_with_the_targets_of_the_paper_under_sgd() -> None:
    """η_B = N_x/(N_u G), η_C = 1/(N_x N_u G): G = N_u^(-1/2) at the first step and 1 in the long run, both derived.

    The row that binds says which: what W_B changes in the states once the readout has moved.
    """
    found = layer("zoh", "sgd")
    assert rates(found.first, SELECTION) == sizes("N_x N_u^-1/2, N_x^-1 N_u^-1/2")
    assert rates(found, SELECTION) == sizes("N_x N_u^-1, N_x^-1 N_u^-1")
    assert found.bounds["W_B", "lr"].rows == ("h, update by W_B+W_out, step 2",)
    assert found.bounds["W_C", "lr"].rows == ("y, update by W_C+W_out, step 2",)
    assert found.fates["W_B"] == "learning"


def test_a_readout_of_larger_entries_has_the_long_run_from_the_first_step() -> None:
    """With f = Θ(1) at initialisation, σ_out = N_u^(-1/2), G is one at once, and no rate changes after the first step."""
    found = solve("s6:step=fixed", optimizer="sgd", require=[*PAPER, "f = 1"])
    assert found["W_out"].init is S("N_u^-1/2")
    assert rates(found, SELECTION) == rates(found.first, SELECTION) == sizes("N_x N_u^-1, N_x^-1 N_u^-1")


def test_zero_order_hold_with_the_targets_of_the_paper_under_adam() -> None:
    """η_B = N_x^(1/2)/N_u and η_C = N_x^(-1/2)/N_u, published up to log N_x: y would grow by that logarithm.

    Derived: both are smaller by log N_x, S₁ = Σ 1/n, and no other rate holds; no difference after the first step.
    """
    found = layer("zoh", "adam")
    assert rates(found, SELECTION) == sizes("N_x^1/2 N_u^-1 log N_x^-1, N_x^-1/2 N_u^-1 log N_x^-1")
    assert rates(found.first, SELECTION) == rates(found, SELECTION)
    assert [found.bounds[w, "lr"].rows for w in SELECTION] == [("y, update by W_B",), ("y, update by W_C",)]


@pytest.mark.parametrize("scheme", [pytest.param("mamba", marks=pytest.mark.slow), "euler"])
def test_the_readout_like_scaling_of_euler_s_method(scheme: str) -> None:
    """SGD: η_B = N_x/(N_u G), η_C = 1/(N_x N_u G); Adam: 1/N_u and 1/(N_x N_u).  As published, at the first step.

    In the long run G is not one here but N_x^(1/2): y starts at N_x^(-1/2), the readout's rate may be larger by N_x for that,
    and once it has moved along y its entries are N_x^(1/2)/N_u.  The published formulas hold with that G.
    """
    found = layer(scheme, "sgd")
    assert rates(found.first, SELECTION) == sizes("N_x N_u^-1/2, N_x^-1 N_u^-1/2")
    grown = S("N_x^1/2")
    assert found["W_out"].lr is S("N_x N_u^-1")
    assert rates(found, SELECTION) == [S("N_x N_u^-1") / grown, S("N_x^-1 N_u^-1") / grown]
    adam = layer(scheme, "adam")
    assert rates(adam, SELECTION) == rates(adam.first, SELECTION) == sizes("N_u^-1, N_x^-1 N_u^-1")


@pytest.mark.slow
def test_a_weight_upstream_of_the_layer_needs_a_smaller_rate_than_mup_gives_it() -> None:
    """The whole selective layer: W_B and W_C as published; W_in's rate is N_u^(1/2), and 1 in the long run, not mup's N_u.

    The published scaling keeps mup for W_in, under which y explodes with it (``test_published``).  Said by the solution, too.
    """
    found = solve("s6", optimizer="sgd", require=PAPER)
    assert [found[w].init for w in SELECTION] == sizes(INITS["zoh"])
    assert rates(found.first, ("W_in", *SELECTION)) == sizes("N_u^1/2, N_x N_u^-1/2, N_x^-1 N_u^-1/2")
    assert rates(found, ("W_in", *SELECTION)) == sizes("1, N_x N_u^-1, N_x^-1 N_u^-1")
    (match,) = found.first_matches
    assert match.name == "mup_ssm"
    assert {w: set(own) for w, own in match.found.differs.items()} == {"W_in": {"lr"}}


@pytest.mark.parametrize("scheme", [pytest.param("mamba", marks=pytest.mark.slow), "euler"])
def test_euler_with_an_output_of_order_one_is_over_determined(scheme: str, snapshot: Callable[[str, str], None]) -> None:
    """published.md's known case: Δx and Δy ask for different η_B, by N_x^(1/2); the smallest set of rows that says so."""
    model = SETTINGS[scheme][0]
    wanted = ["rms h = 1", "y = 1", "update h by W_B = 1", "update y by W_B = 1"]
    for steps in (1, 2):
        with pytest.raises(Contradiction) as caught:
            solve(model, optimizer="sgd", require=wanted, steps=steps)
        labels = {label for label, _, _ in caught.value.rows}
        assert labels == {"h, init", "y, init", "h, update by W_B", "y, update by W_B"}
        assert caught.value.product is S("N_x^1/2")
        assert caught.value.exit_status == 1
    if scheme == "euler":
        snapshot(f"{caught.value}\n", "contradiction.txt")
    for left_out in (wanted[1], wanted[2]):  # without either of the two there is a solution
        assert solve(model, optimizer="sgd", require=[w for w in wanted if w != left_out], steps=1)


def test_no_row_of_a_contradiction_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows alone have no solution, and any of them less have one: checked by solving again, with exact certificates."""
    seen: list[Infeasible] = []
    say = Problem._contradiction
    monkeypatch.setattr(Problem, "_contradiction", lambda self, error: (seen.append(error), say(self, error))[1])
    with pytest.raises(Contradiction):
        solve(SETTINGS["euler"][0], optimizer="sgd", steps=1, require=["y = 1", "update h by W_B = 1"])
    rows = [c for c, _ in seen[0].multipliers]
    assert len(rows) == 4

    def feasible(some: list[Constraint]) -> bool:
        names = unknowns_in((c.size for c in some), ("N_u", "N_x"))
        try:
            System(names, some, Regime.parse("proportional")).maximize(Scale.of("lr W_B"))
        except Infeasible:
            return False
        return True

    assert not feasible(rows)
    assert all(feasible([other for other in rows if other is not row]) for row in rows)
