"""The zoo: every architecture derives, and says what is known of it; a sample of it is measured.

Expected, with where it is from:

- attention's logits move by order one with 1/d and by N^(1/2) with 1/√d (Yang et al. 2022, arXiv 2203.03466); linear
  attention's output, and Mamba-2's contraction of C with B (Dao & Gu 2024, arXiv 2405.21060), are that sum without softmax;
- a readout of size 1/N gives outputs of N^(-1/2) initially and learns by order one, and a tied one, which meets its own rows,
  is of order one (the same, where its multiplier is 1/N and its rate an embedding's);
- a convolution's channels behave as a perceptron's features (the same);
- the linear recurrent unit's normalisation changes no power of width (Orvieto et al. 2023, arXiv 2303.06349: it is there for
  |λ| near one).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from scalecalc import derive as derived
from scalecalc.errors import UnsupportedScale
from scalecalc.measure.interpret import Setting, draw_leaves, run
from scalecalc.measure.verify import verify
from scalecalc.program import LEAVES, Program, Tensor
from scalecalc.rule import registry
from scalecalc.solve import solve
from scalecalc.table import Table

registry("rule")  # so that rule files can be imported
from scalecalc.rules.reduction import dot  # noqa: E402

OPTIMIZERS = ("sgd", "adam")
LONG = ("gru", "mamba", "s4d", "s5")  # to derive
LONGEST = (
    "lstm",  # most of a minute: its cell is a tanh of a sum of products of functions, of very many parities
    "mamba_depth",
    "s6_depth",
    "transformer_depth",  # test_depth.py derives these three
)
OPTIONS = (  # that no other test derives
    "residual:depth=1,norm=group", "conv:norm=group,pooling=max", "mlp:dropout=yes", "moe:routing=top1", "deltanet:gated=yes",
    "transformer:kv=grouped,rotary=yes", "transformer:growing=heads,kv=one,rotary=yes,qk_norm=yes,glu=yes",
)  # fmt: skip
NO_MIXING = "linear_attention:norm=no,gate=no,decay=none"


@cache
def derive(model: str, **options: Any) -> Table:
    return derived(model, **options)


def sizes(table: Table, kind: str, by: str = "") -> dict[str, str]:
    """Row → derived size, of one kind and, of updates, by one weight alone."""
    return {row.row: row.formula() for row in table.rows if row.kind == kind and (not by or row.tag == (by,))}


def architectures() -> list[Any]:
    names = sorted(set(registry("architecture")) - set(LONGEST))
    quick = [(name, optimizer) for optimizer in OPTIMIZERS for name in names if name not in LONG]
    return [*quick, *(pytest.param(name, "adam", marks=pytest.mark.slow) for name in LONG)]


@pytest.mark.parametrize(("name", "optimizer"), architectures())
def test_every_architecture_derives(name: str, optimizer: str) -> None:
    _derives(name, optimizer)


@pytest.mark.parametrize("model", OPTIONS)
def test_every_option_derives(model: str) -> None:
    _derives(model, "adam")


def _derives(model: str, optimizer: str) -> None:
    """No row is exactly zero, and every weight moves something."""
    table = derive(model, optimizer=optimizer)
    assert sizes(table, "gradient")
    assert all(row.terms for row in table.rows if row.kind in ("init", "update"))
    assert {weight for row in table.rows if row.kind == "update" for weight in row.tag} == set(table.parameterization)


@pytest.mark.parametrize("name", sorted(registry("architecture")))
def test_every_architecture_says_what_to_watch(name: str) -> None:
    """What its table is, what differs from the habit, what to watch: what a reader needs who does not read tables."""
    text = " ".join((registry("architecture")[name].make.__doc__ or "").split())
    at = [text.find(word) for word in (" table", "differs ", "Watch ")]
    assert min(at) > 0
    assert at == sorted(at)


# ------------------------------------------------------------------ attention, with softmax and without


@pytest.mark.parametrize(("scale", "size"), [("1/d", "1"), ("1/sqrt(d)", "N^(1/2)")])
@pytest.mark.parametrize("weight", ["W_q", "W_k"])
def test_logits_are_bounded_by_1_over_d_alone(scale: str, size: str, weight: str) -> None:
    table = derive("transformer", optimizer="adam", scale=scale)
    assert sizes(table, "update", weight)["logits"] == size


@pytest.mark.parametrize(("scale", "size"), [("1/d", "1"), ("1/sqrt(d)", "N^(1/2)")])
def test_linear_attention_is_bounded_by_1_over_d_alone(scale: str, size: str) -> None:
    table = derive(NO_MIXING, optimizer="adam", scale=scale)
    assert sizes(table, "update", "W_q")["o"] == sizes(table, "update", "W_k")["o"] == size


def test_mamba_2_reads_its_states_as_queries_read_keys() -> None:
    """C·B is N_x^(1/2) initially and N_x once either has learned: q·k without a scale."""
    table = derive("ssd", optimizer="adam")
    assert sizes(table, "init")["y"] == "N_x^(1/2)"
    assert sizes(table, "update", "W_B")["y"] == sizes(table, "update", "W_C")["y"] == "N_x"
    raw = derive(NO_MIXING, optimizer="adam", scale="1")
    assert (sizes(raw, "init")["o"], sizes(raw, "update", "W_q")["o"]) == ("N^(1/2)", "N")


# ------------------------------------------------------------------ mup's own


@pytest.mark.parametrize(
    "model", ["mlp", "residual", "conv", "embedding:tied=no", "gru", "rglru", "transformer", "moe", "deltanet"]
)
def test_a_readout_of_1_over_n(model: str) -> None:
    table = derive(model, optimizer="adam")
    assert sizes(table, "init")["f"] == "N^(-1/2)"
    assert sizes(table, "update", "W_out")["f"] == "1"


def test_a_tied_head_meets_its_own_rows() -> None:
    tied, untied = (derive("embedding", optimizer="adam", tied=tied) for tied in (True, False))
    assert (sizes(tied, "init")["f"], sizes(untied, "init")["f"]) == ("1", "N^(-1/2)")
    assert str(tied.parameterization["E"].lr) == "1"
    assert set(sizes(tied, "update", "E").values()) == {"1"}
    assert sizes(derive("embedding", optimizer="adam", scale="1/sqrt(N)"), "update", "E")["f"] == "N^(1/2)"


def test_the_rates_that_are_solved_for_a_tied_embedding_are_mups() -> None:
    p = solve("embedding", optimizer="adam")
    assert {w: (str(p[w].init), str(p[w].lr)) for w in p} == {"E": ("1", "1"), "W": ("N^(-1/2)", "N^(-1)")}


@pytest.mark.slow
def test_the_bank_of_states_that_is_solved_for_starts_at_one() -> None:
    """S4D's own C, of unit variance whatever the number of states, and a rate that pays for Σ 1/n."""
    p = solve("s4d", optimizer="adam", steps=1)
    assert (str(p["C"].init), str(p["C"].lr)) == ("1", "(log N_x)^(-1)")


def test_channels_are_features() -> None:
    """Rows and sizes of two dense convolutions are those of the perceptron's two layers."""
    for optimizer in OPTIMIZERS:
        conv, mlp = (derive(m, optimizer=optimizer) for m in ("conv", "mlp"))
        for kind in ("init", "gradient"):
            features = ("h1", "h2", "f")
            assert [sizes(conv, kind)[f] for f in features] == [sizes(mlp, kind)[f] for f in features]
        for own, other in (("W_1", "W_in"), ("W_2", "W_2"), ("W_out", "W_out")):
            assert sizes(conv, "update", own) == sizes(mlp, "update", other)


# ------------------------------------------------------------------ experts


@pytest.mark.slow
def test_a_mixture_of_more_experts_is_smaller() -> None:
    """Σ p_e y_e over E independent experts, p_e = 1/E: a mean of what has none, until the experts learn the same."""
    table = derive("moe", optimizer="adam", growing="experts", norm=False)
    assert sizes(table, "init")["m"] == "E^(-1/2)"
    assert sizes(table, "update", "W_1")["m"] == sizes(table, "update", "W_2")["m"] == "1"


def test_one_of_a_growing_number_of_experts_has_no_law() -> None:
    with pytest.raises(UnsupportedScale, match="Give the experts a fixed number"):
        derive("moe", routing="top1", growing="experts")


def test_a_choice_says_what_its_rows_leave_out() -> None:
    table = derive("moe", optimizer="adam", routing="top1")
    assert any("another expert" in note for note in table.notes)
    assert (sizes(table, "init")["logits"], sizes(table, "update", "W_r")["logits"]) == ("N^(-1/2)", "1")


# ------------------------------------------------------------------ states


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_normalisation_of_a_linear_recurrent_unit_is_no_matter_of_width(optimizer: str) -> None:
    bare, normalised = (derive("lru", optimizer=optimizer, normalised=n) for n in (False, True))
    for kind in ("init", "update"):
        assert sizes(bare, kind) == sizes(normalised, kind)


@pytest.mark.parametrize("transition", ["s4d_lin", pytest.param("s4d_inv", marks=pytest.mark.slow), "s4d_real"])
def test_under_zero_order_hold_a_bank_of_states_is_worth_finitely_many(transition: str) -> None:
    """mup divides by N_x^(1/2), and Adam's rate by N_x, for a fan-in of N_x states; but these fall like 1/n."""
    table = derive("s4d", optimizer="adam", transition=transition, activation="identity")
    assert sizes(table, "init")["y"] == "N_x^(-1/2)"
    assert sizes(table, "update", "C")["y"] == "N_x^(-1) log N_x"


@pytest.mark.slow
def test_states_that_turn_lead_over_faster_falling_ones_that_do_not() -> None:
    """S4D-Lin's input factor is 1/n, turning, and 1/n² that does not: it is the first that Adam divides by.

    With a curved activation C's update was derived too large by N_x; the measured slope is −0.87, a logarithm above −1.
    """
    table = derive("s4d", optimizer="adam")
    assert sizes(table, "update", "C")["y"] == "N_x^(-1) log N_x"


@pytest.mark.slow
def test_the_loss_moves_by_the_sum_of_the_gradients_entries() -> None:
    """Adam's first step is the gradient's sign, so that the loss, linear in f, moves by Σ |dΔ_n| over N_x alike entries.

    The update of f was N_u^(-1/2), N_x^(1/2) too small: overtones of the sign of a turning gradient crowded out its own part.
    """
    table = derive("s5", optimizer="adam", step="trained")
    assert sizes(table, "gradient")["log_Delta"] == "N_u^(-1/2) N_x^(-1/2)"
    assert sizes(table, "update", "log_Delta")["f"] == "N_u^(-1/2) N_x^(1/2)"


# ------------------------------------------------------------------ the same network as elsewhere


def test_the_recorded_cell_is_torchs() -> None:
    """Two steps of the recorded network on numbers, beside torch.nn.LSTMCell with the same weights."""
    program = registry("architecture")["lstm"].make()
    program.fixed["batch"] = 3
    generator = torch.Generator().manual_seed(0)
    leaves: dict[int, torch.Tensor] = {}
    for i, op in enumerate(program.ops):
        if op.rule in LEAVES:
            shape = [5 if program.grows(label) else program.size(label) for label in op.axes]
            leaves[i] = torch.randn(1, *shape, generator=generator, dtype=torch.float64)
    own = {program.ops[i].name: value[0] for i, value in leaves.items()}
    cell = torch.nn.LSTMCell(program.size("in"), 5, dtype=torch.float64)
    # the first step has no state: torch's is zero, and its forget gate has no effect
    with torch.no_grad():
        cell.weight_ih.copy_(torch.cat([own[f"W_{gate}"] for gate in "ifgo"]))
        cell.weight_hh.copy_(torch.cat([own[f"U_{gate}"] for gate in "ifgo"]))
        cell.bias_ih.copy_(torch.cat([own[f"b_{gate}"] for gate in "ifgo"]))
        cell.bias_hh.zero_()
        state = None
        for t in range(program.size("time")):
            state = cell(own["x"][:, t], state)
    assert state is not None
    wanted = [program.features["h2"], program.features["c2"]]
    found = run(program, leaves, wanted)
    for position, expected in zip(wanted, state, strict=True):
        torch.testing.assert_close(found[position][0].T, expected)


def numbers(p: Program, of: Tensor, **given: torch.Tensor) -> torch.Tensor:
    """A tensor for one seed, the inputs given by name."""
    named = ((x, p.ops[p.leaves("input")[name]].axes) for name, x in given.items())
    widths = {label.rstrip("'"): x.shape[k] for x, axes in named for k, label in enumerate(axes)}
    setting = Setting({dim: widths[dim] for dim in p.dims}, 1, 0)
    leaves = draw_leaves(p, setting, {}, [op.rule == "index" for op in p.ops])
    leaves |= {p.leaves("input")[name]: x[None] for name, x in given.items()}
    return run(p, leaves, [of.index])[of.index][0]


def test_group_norm_is_torchs() -> None:
    from scalecalc.rules.norm import groupnorm

    p = Program("norm", dims=("N",), fixed={"batch": 3, "row": 2, "column": 5})
    out = groupnorm(p.input("x", "batch N row column"), "N", 2, ("row", "column"))
    x = torch.randn(3, 8, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = numbers(p, out, x=x).permute([out.axes.index(label) for label in ("batch", "N", "row", "column")])
    torch.testing.assert_close(found, torch.nn.functional.group_norm(x, 2, eps=0))


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.8])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    from scalecalc.rules.dropout import dropout

    p = Program("dropped", dims=("N",))
    out = dropout(p.input("x", "N"), rate)
    (mask,) = (name for name in p.leaves("input") if name != "x")
    size = 100_000
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = numbers(p, out, x=torch.ones(size, dtype=torch.float64), **{mask: noise})
    torch.testing.assert_close(found.unique(), torch.tensor([0, 1 / (1 - rate)], dtype=torch.float64))
    assert float((found == 0).double().mean()) == pytest.approx(rate, abs=5 * (rate * (1 - rate) / size) ** 0.5)


def test_rotary_logits_depend_on_the_distance_alone() -> None:
    from scalecalc.rules.architectures.transformer import TIMES, _turned

    p = Program("rotary", dims=("N",), fixed={"t": TIMES, "s": TIMES})
    p.multiples["N''"] = 1
    q, k, over = _turned(p.input("q", "t N''"), p.input("k", "s N''"), "N''")
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(16, generator=generator, dtype=torch.float64).expand(TIMES, 16) for _ in range(2))
    logits = numbers(p, dot(q, k, over), q=one, k=other)
    for lag in range(-TIMES + 1, TIMES):
        along = logits.diagonal(lag)
        torch.testing.assert_close(along, along[:1].expand_as(along))
    turned = one[0].reshape(2, 8)
    turned = turned[0] + 1j * turned[1]
    angle = 10000.0 ** (-torch.arange(8, dtype=torch.float64) / 8)
    expected = [(turned * torch.exp(1j * lag * angle) * (other[0, :8] - 1j * other[0, 8:])).real.sum() for lag in (0, 1)]
    torch.testing.assert_close(torch.stack([logits[0, 0], logits[1, 0]]), torch.stack(expected))


# ------------------------------------------------------------------ measured


@pytest.mark.slow
@pytest.mark.parametrize("model", ["residual:depth=1", "embedding", "conv"])
def test_a_sample_is_measured(model: str) -> None:
    table = verify(model, optimizer="adam", budget=3)
    assert table.counts()["disagrees"] == 0, [row.label for row in table.rows if row.verdict == "disagrees"]
    assert table.counts()["agrees"] > len(table.rows) / 4
