"""Published parameterizations, solved for: every cell that a solver can answer, exactly, or why it answers otherwise.

Sources: Everett et al. 2024 (arXiv 2407.05872), "maximal stable per-layer learning rates"; "On feature learning in structured
state space models" (NeurIPS 2024), below: the SSM paper, whose table of the S6 layer is reconstructed from what it states.
"""

from __future__ import annotations

import pytest
from cases import S

from scalecalc.parameterization import Parameterization
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
    ("ntp", "sgd"): ("N^1/2, N^1/2, 1", "1, 1, 1"),
    ("ntp", "adam"): ("1, N^-1/2, N^-1/2", "N^-1/2, N^-1, N^-1/2"),
    ("mup_table9", "sgd"): ("1, 1, 1", "1, 1, 1"),
    ("mup_table9", "adam"): ("N^-1/2, N^-1, N^-1/2", "N^-1/2, N^-1, N^-1/2"),
    ("mfp", "sgd"): ("N, N, N", "N, N, N"),
    ("mfp", "adam"): ("1, N^-1/2, 1", "1, N^-1/2, 1"),
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
