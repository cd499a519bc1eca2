"""Blocks repeated along a growing axis: the loop in numbers, its sizes, what is no size, and the rates that follow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

import scalecalc as sc
from scalecalc import interpreter, rulebook
from scalecalc.derive import interpret
from scalecalc.errors import InputError, ProgramError
from scalecalc.measure.contributions import Plan, measure
from scalecalc.measure.interpret import Setting, draw_leaves, run
from scalecalc.model import resolve
from scalecalc.pattern import EVEN, Pattern, atom, block_slot, fluctuation, name_of, pattern, relabel, source, stacked
from scalecalc.program import Program, Tensor
from scalecalc.repeat import inside, left_out
from scalecalc.rule import Entry, registry
from scalecalc.scale import FREE, Scale
from scalecalc.table import Row
from scalecalc.term import Limits, Term, simplify
from scalecalc.value import Algebra, Value
from scalecalc.wick import multiply_patterns, sum_pattern

rulebook.load()

from scalecalc.rules.depth import layers, own, residual_sum  # noqa: E402
from scalecalc.rules.elementwise import tanh  # noqa: E402
from scalecalc.rules.matmul import matmul  # noqa: E402

HALF, ONE = Fraction(1, 2), Scale.one()


def power(n: int | Fraction, of_depth: int | Fraction) -> Scale:
    return Scale.of("N", n) * Scale.of("L", of_depth)


# ---------------------------------------------------------------------- in numbers


def numbers(model: str, names: list[str], widths: dict[str, int], seeds: int = 2) -> dict[str, torch.Tensor]:
    found = resolve(model)
    p = found.program
    leaves = draw_leaves(p, Setting(widths, seeds, 1), found.scalings, [True] * len(p.ops))
    where = {**p.features, **p.leaves("weight"), **p.leaves("input")}
    where |= {f"d{name}": p.gradients[i] for name, i in where.items() if i in p.gradients}
    values = run(p, leaves, [where[name] for name in names])
    return {name: values[where[name]] for name in names}


def test_blocks_run_one_after_the_other() -> None:
    names = ["W_1", "W_2", "u", "h", "v"]
    got = numbers("residual_depth:branch=L^(-1/2)", names, {"N": 6, "L": 5})
    h = got["u"]  # (seeds, N, batch): as the first matrix multiplies
    for block in range(5):
        entering = got["h"].select(1 + 2, block)
        assert torch.allclose(entering, h)
        z = torch.einsum("smn,snb->smb", got["W_1"][:, block], h)
        h = h + 5**-0.5 * torch.einsum("smn,snb->smb", got["W_2"][:, block], z.tanh())
    assert torch.allclose(got["v"], h)


@pytest.mark.parametrize(
    "model", ["residual_depth:matrices=1", "residual_depth:branch=L^(-1/2),norm=rms,bias=yes,gain=yes", "transformer_depth"]
)
def test_the_gradient_of_repeated_blocks_is_that_of_autograd(model: str) -> None:
    found = resolve(model)
    p = found.program
    leaves = draw_leaves(p, Setting({"N": 6, "L": 4}, 2, 0), found.scalings, [True] * len(p.ops))
    weights = p.leaves("weight")
    trained = {i: leaves[i].detach().requires_grad_() for i in weights.values()}
    assert p.loss is not None
    f = run(p, {**leaves, **trained}, [p.loss])[p.loss]
    c = leaves[p.gradients[p.loss]]  # of a linear loss
    wanted = torch.autograd.grad((f * c).sum(), list(trained.values()))
    got = run(p, leaves, [p.gradients[i] for i in trained])
    for (name, i), gradient in zip(weights.items(), wanted, strict=True):
        assert torch.allclose(got[p.gradients[i]], gradient), name


def test_the_gradient_of_what_enters_a_block_is_that_of_all_above_it() -> None:
    got = numbers("residual_depth", ["dh", "du", "dv", "dy"], {"N": 6, "L": 4})
    assert torch.allclose(got["dh"][..., 0], got["du"])  # what enters the first
    assert torch.allclose(got["dh"][..., 1], got["dy"].movedim(1 + _axis("y"), -1)[..., 0])  # leaves it
    assert torch.allclose(got["dv"], got["dy"].movedim(1 + _axis("y"), -1)[..., -1])


def _axis(feature: str) -> int:
    p = resolve("residual_depth").program
    return p.ops[p.gradients[p.features[feature]]].axes.index("L")


def test_a_width_that_is_held_leaves_preactivations_of_order_one() -> None:
    found = resolve("residual_depth", parameterization="depth_mup", fix={"N": 64})
    p = found.program
    leaves = draw_leaves(p, Setting({"L": 4}, 4, 0), found.scalings, [True] * len(p.ops))
    z = run(p, leaves, [p.features["z"]])[p.features["z"]]
    assert 0.7 < float(z.square().mean().sqrt()) < 1.5


# ---------------------------------------------------------------------- sizes


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("branch", [HALF, Fraction(1)])
def test_residual_sums_are_a_root_of_the_depth_initially_and_the_depth_once_updates_align(
    branch: Fraction, optimizer: str
) -> None:
    table = sc.derive(f"residual_depth:branch=L^(-{branch})", parameterization="mup", optimizer=optimizer)
    assert table["h", "init"].terms == (power(0, 0),)
    assert table["y", "init"].terms == (power(0, -branch),)
    assert table["W_1", "gradient"].terms == (power(-1, -branch),)
    together = 1 - branch * (2 if optimizer == "sgd" else 1)  # L blocks, each moves h by the branch times its gradient's
    for weight in ("W_1", "W_2"):
        assert table["v", "update", weight].terms == (power(0, together),)
        assert table["f", "update", weight].terms == (power(0, together),)


@pytest.mark.parametrize(("branch", "optimizer"), [(HALF, "sgd"), pytest.param(Fraction(1), "adam", marks=pytest.mark.slow)])
def test_transformers_add_up_like_residual_networks(branch: Fraction, optimizer: str) -> None:
    """Attention and feed-forward layer behind norms; what a block adds, and by how much it moves (CompleteP's table)."""
    name = "depth_mup" if branch == HALF else "completep"
    table = sc.derive("transformer_depth", parameterization=name, optimizer=optimizer)
    for feature in ("h", "v", "o", "z", "e"):
        assert table[feature, "init"].terms == (power(0, 0),)
    assert table["y", "init"].terms == (power(0, -branch),)
    for weight, within in (("W_v", "v"), ("W_1", "z")):
        assert table[weight, "gradient"].terms == (power(-1, -branch),)
        assert table["e", "update", weight].terms == (power(0, 0),)
        assert table[within, "update", weight].terms == (power(0, 0),)
    for weight in ("W_o", "W_2"):
        assert table["e", "update", weight].terms == table["f", "update", weight].terms == (power(0, 0),)
    assert any("one of L" in note for note in table.notes)


def test_selective_layers_stack_with_both_widths_and_depth_growing() -> None:
    """Along a path: with zero-order hold nothing but what a single block adds depends on the depth."""
    table = sc.derive("s6_depth:skip=yes", regime="proportional")
    for feature in ("e", "h", "y", "v"):
        assert table[feature, "init"].terms == (power(0, 0),)
    assert table["o", "init"].terms == (power(0, -1),)
    assert table["v", "update", "W_o"].terms == (power(0, 0),)
    # of what C's update adds the sign is that of one number per block, so that blocks add up by the central limit
    assert table["v", "update", "W_C"].terms == (table["o", "update", "W_C"].terms[0] * power(0, HALF),)
    assert {weight for row in table.rows if row.kind == "update" for weight in row.tag} == set(table.parameterization)


def test_what_hangs_on_a_blocks_matrix_is_its_source() -> None:
    """W_l a and W_l b_l are one vector, W_l (a + b_l), as without blocks; where W_l meets itself b_l comes back."""
    W, V = stacked("W", 0), stacked("V", 0)
    matrix, b = pattern((), [atom(W, ["L", "M", "N"])]), pattern((), [atom(V, ["L", "N"])])

    def after(x: Pattern) -> Pattern:
        ((size, product),) = multiply_patterns(matrix, x)
        factor, rest, large = sum_pattern(product, "N")
        assert (size * factor, large) == (Scale.of("N", HALF), False)
        return rest

    both = simplify([Term(ONE, after(x)) for x in (pattern(), b)])
    assert [[repr(a) for a in t.pattern.odd] for t in both] == [["W[L,M,·]"]]
    back = {one: size for size, one in multiply_patterns(after(b), relabel(matrix, "N", "N'"))}
    assert back[relabel(b, "N", "N'")] == Scale.of("N", -HALF)
    # summed over the blocks it is bound to both axes, and another matrix times as much is as aligned with it as before
    factor, summed, _ = sum_pattern(after(b), "L")
    assert factor == Scale.of("L", HALF)
    assert (ONE, pattern()) in multiply_patterns(summed, summed)
    found = {one: size for size, one in multiply_patterns(summed, relabel(matrix, "N", "N'"))}
    assert found[relabel(b, "N", "N'")] == Scale.of("L", -HALF) * Scale.of("N", -HALF)


def test_what_has_nothing_alike_but_the_block_meets_where_blocks_are_summed_over() -> None:
    """Σ_l W_l x (g W_l y): N^(-1/2) smaller along g in every block, and L against L^(1/2) in the sum."""
    W = stacked("W", 0)
    a = pattern((), [atom(W, ["L", "M", source("N•", [EVEN])])])
    b = pattern((), [atom(W, ["L", source("M•", [pattern((), [atom("g", ["M•"])])]), source("N•", [EVEN])])])
    ((size, product),) = multiply_patterns(a, b)
    assert size is ONE
    algebra = Algebra(limits=Limits())
    found = {repr(t.pattern): t.size for t in algebra.sum(Value(("L", "M"), (Term(ONE, product),)), "L").terms}
    assert found["<g[M]>"] == Scale.of("L") * Scale.of("M", -HALF)
    assert Scale.of("L", HALF) in found.values()


def test_a_stack_that_is_derived_along_paths_alone_says_so() -> None:
    with pytest.raises(InputError, match="--regime proportional"):
        sc.derive("mamba_depth")


@pytest.mark.slow
def test_mamba_blocks_stack_with_both_widths_and_depth_growing() -> None:
    """The table is that of one block, at no cost in L; of one number per block W_B and W_C move the sign."""
    table = sc.derive("mamba_depth:step=fixed", regime="proportional")
    one = sc.derive("mamba:discretization=zoh,step=fixed", regime="proportional", parameterization="mup_ssm")
    for feature in ("v", "c", "B", "C", "h", "y", "z", "u1"):
        assert table[feature, "init"].terms == one[feature, "init"].terms
    for feature in ("c", "B", "C", "h", "y", "z", "o"):
        times = power(0, 0 if feature == "o" else -1)
        assert table[feature, "gradient"].terms == (one[feature, "gradient"].terms[0] * times,)
    for feature, weight in [("c", "W_v"), ("B", "K"), ("h", "W_v"), ("y", "D"), ("z", "W_z"), ("y", "W_B"), ("u1", "W_o")]:
        assert table[feature, "update", weight].terms == one[feature, "update", weight].terms
    for weight in ("W_v", "K", "D", "W_z", "W_o"):
        assert table["u1", "update", weight].terms == (power(0, 0),)
    for weight in ("W_B", "W_C"):
        assert table["u1", "update", weight].terms == (table["o", "update", weight].terms[0] * power(0, HALF),)
    assert {weight for row in table.rows if row.kind == "update" for weight in row.tag} == set(table.parameterization)


def test_an_update_is_measured_from_what_is_known_of_blocks_already() -> None:
    """The step that a block's decay is made of is not drawn again where the decay is known."""
    model = resolve("s6_depth:gate=yes")
    rows = tuple(Row(row="f", kind="update", tag=(name,), step=1, terms=(power(0, 0),)) for name in ("W_out", "W_B"))
    found = measure(Plan(model, rows), Setting({"N_u": 8, "N_x": 4, "L": 2}, 2, 0))
    assert all(bool((size.exp() < 10).all()) for size in found.values())


def two_parts(p: Program, branch: Fraction) -> None:
    """A block of two matrices, of which the second sees what the first has added."""
    u = p.feature("u", matmul(p.weight("W_in", "N in"), p.input("x", "batch in")))
    by = p.index("s", "", 1, scale=power(0, -branch))
    first, second = (p.weight(name, "L N N'", stacked="L") for name in ("W_a", "W_b"))
    h = p.feature("h", layers(u, first, "L"))
    a = by * matmul(first, h)
    v = p.feature("v", residual_sum(h, a + by * matmul(second, p.feature("h1", h + own(a, h)))))
    p.end(p.feature("f", matmul(p.weight("W_out", "out N"), v)))


@pytest.mark.parametrize("branch", [HALF, Fraction(1)])
def test_what_a_block_sees_of_its_own_parts_changes_no_size(branch: Fraction, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is the same where it is followed (which takes ten times as long, and minutes in a transformer)."""

    def made() -> Program:
        p = Program("two_parts", dims=("N", "L"), fixed={"batch": 2, "in": 4, "out": 4})
        two_parts(p, branch)
        return p

    defaults = {"parameterization": "mup", "widths": {}}
    monkeypatch.setitem(registry("architecture"), "two_parts", Entry("two_parts", made, "a test", "", defaults))
    tables: list[dict[object, str]] = []
    for followed in (False, True):
        if followed:
            monkeypatch.setattr(interpreter, "left_out", lambda *given: False)
        table = sc.derive("two_parts", optimizer="sgd", parameterization="mup")
        tables.append({(row.kind, row.row, row.tag): row.formula() for row in table.rows})
    assert tables[0] == tables[1]
    assert len(tables[0]) > 30


def test_where_the_depth_is_held_a_block_sees_all_of_its_parts() -> None:
    p = resolve("transformer_depth", fix={"L": 4}).program
    assert not any(left_out(p, i) for i in range(len(p.ops)))
    p = resolve("transformer_depth").program
    assert [p.ops[i].backward for i in range(len(p.ops)) if left_out(p, i)] == [False, True]


def test_own_parts_are_those_of_repeated_blocks() -> None:
    _p, x, _W, h = blocks()
    with pytest.raises(ProgramError, match="no axis of blocks"):
        own(x, h)
    with pytest.raises(ProgramError, match="not what enters the repeated blocks"):
        own(h, x)


def test_a_table_says_by_which_law_blocks_add_up() -> None:
    found = interpret(resolve("residual_depth:activation=relu", optimizer="sgd"), FREE)
    position = found.model.program.features["v"]
    initial, moved = found.values[position], found.updated[position]
    assert initial is not None
    assert moved is not None
    assert "sum over L: central limit (odd in W_2), L^(1/2)" in _laws(initial.terms)  # what W_2 sees of W_1 is its source
    assert "sum over L: law of large numbers, L" in _laws(t for t in moved.terms if t.tag == ("W_2",))


def _laws(terms: Iterable[Term]) -> set[str]:
    return {t.why.law for t in terms if t.why is not None}


@pytest.mark.parametrize("model", ["residual_depth:branch=L^(-1/2)", "transformer_depth:branch=L^(-1/2)"])
def test_a_thousand_blocks_cost_what_four_cost(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By counts: operations evaluated, and terms that their values have."""
    evaluate, found = interpreter._Pass.evaluate, dict[int, tuple[int, int, int]]()
    count = [0, 0]

    def counted(self: interpreter._Pass, i: int) -> None:
        evaluate(self, i)
        value = self.out[i]
        count[0], count[1] = count[0] + 1, count[1] + (len(value.terms) if value is not None else 0)

    monkeypatch.setattr(interpreter._Pass, "evaluate", counted)
    for depth in (4, 1000):
        count[:] = [0, 0]
        table = sc.derive(model, fix={"L": depth}, parameterization="mup", optimizer="sgd")
        assert ("h", "update") in {(row.row, row.kind) for row in table}
        found[depth] = (len(resolve(model, fix={"L": depth}).program.ops), count[0], count[1])
    assert found[4] == found[1000]
    assert found[4][1] > found[4][0]  # they were evaluated, and blocks more than once


# ---------------------------------------------------------------------- what is no power


@pytest.mark.parametrize(
    ("options", "what", "rate"),
    [
        ("matrices=1,activation=relu,branch=L^(-1/2)", "h", "e^(c L^(1/2))"),  # hard case W6
        ("activation=relu", "h", "e^(c L)"),
        ("matrices=1", "dy", "e^(c L^(1/2))"),  # Yang & Schoenholz 2017, arXiv 1712.08969: tanh, the gradient
    ],
)
def test_blocks_that_regenerate_what_they_are_given_grow_exponentially(options: str, what: str, rate: str) -> None:
    table = sc.derive(f"residual_depth:{options}", parameterization="mup")
    (note,) = [text for text in table.notes if "exponentially" in text]
    assert note.startswith(f"{what} grows exponentially, like {rate}")
    rows = {(row.row, row.kind) for row in table}
    assert ("u", "init") in rows
    assert ("v", "gradient") in rows  # what does not pass the blocks is a power all the same
    assert ("u", "gradient") not in rows
    assert (("v", "init") in rows) == (what == "dy")
    if what == "dy":
        assert table["v", "init"].terms == (power(0, HALF),)


def test_relu_residuals_grow_like_exp_of_the_root_of_the_depth_in_numbers() -> None:
    model = "residual_depth:matrices=1,activation=relu,branch=L^(-1/2)"
    found = (numbers(model, ["v"], {"N": 96, "L": depth}, 6)["v"] for depth in (64, 256))
    small, large = (float(v.square().mean().log()) / 2 for v in found)
    slope = (large - small) / (16 - 8)
    assert abs(slope - 1 / math.sqrt(2 * math.pi)) < 0.06


def test_where_layers_are_not_alike_backwards_nothing_is_guessed() -> None:
    table = sc.derive("residual_depth:norm=rms", parameterization="mup")  # branches of order one, whatever they are given
    assert table["v", "init"].terms == (power(0, HALF),)
    assert any("not alike at all layers" in note for note in table.notes)
    assert not [row for row in table if row.kind == "update" and row.row == "h"]


@pytest.mark.parametrize(("activation", "gain", "c"), [("relu", 4, 1.0), ("tanh", 1, 1.18), ("tanh", 4, 2.61)])
def test_behind_norms_inits_decide_by_which_power_gradients_fall(activation: str, gain: int, c: float) -> None:
    """|g_l|² |h_l|^(2c) is the same at all layers, c = E φ′(z)² E z² / E φ(z)² for z of standard deviation ``gain``."""
    found = resolve(f"residual_depth:norm=rms,activation={activation}", parameterization="mup")
    p = found.program
    leaves = draw_leaves(p, Setting({"N": 128, "L": 64}, 8, 3), found.scalings, [True] * len(p.ops))
    leaves[p.leaves("weight")["W_1"]] *= gain
    h = p.features["h"]
    values = run(p, leaves, [h, p.gradients[h]])
    sizes: list[torch.Tensor] = []
    for i, x in values.items():
        along = x.square().movedim(1 + p.ops[i].axes.index("L"), -1).flatten(0, -2).mean(0).log()[4:]
        sizes.append(along - along.mean())
    entering, gradient = sizes
    assert abs(float(-(entering * gradient).sum() / entering.square().sum()) / c - 1) < 0.1


# ---------------------------------------------------------------------- rates


def test_the_largest_branches_that_are_stable_are_those_of_depth_mup() -> None:
    found = sc.solve("residual_depth", optimizer="adam", steps=1)
    assert [m.name for m in found.matches] == ["depth_mup"]
    assert found["W_2"].init == power(-HALF, -HALF)
    assert set(found.fates.values()) == {"learning"}


def test_branches_of_one_over_the_depth_have_the_rates_of_completep() -> None:
    found = sc.solve("residual_depth", optimizer="sgd", steps=1, require=["y = L^-1"])
    assert [m.name for m in found.matches] == ["completep"]
    assert found["W_1"].lr == power(0, 1)


COMPLETEP = {  # arXiv 2505.01618, table 1, α = 1, N and L for m_N and m_L: init (standard deviation), rate, decay, ε
    "W_in": ("1", "1", "1", "N^(-1)"),  # embedding
    "g": ("1", "1", "1", "L^(-1) N^(-1)"),  # pre-LN: rate m_L^(α-1)
    "b": ("1", "1", "1", "L^(-1) N^(-1)"),  # hidden bias: rate m_L^(α-1)
    "W_1": ("N^(-1/2)", "N^(-1)", "N", "L^(-1) N^(-1)"),
    "W_2": ("L^(-1) N^(-1/2)", "L^(-1) N^(-1)", "L N", "N^(-1)"),  # with its multiplier 1/L: as W_1
    "W_out": ("N^(-1)", "N^(-1)", "N", "1"),  # with its multiplier 1/N: 1, 1, 1, N^(-1)
}
STACK = "residual_depth:norm=rms,gain=yes,bias=yes"


def test_the_table_of_completep_is_solved_row_by_row() -> None:
    """Gains, biases, decays and ε among them, and no row of it is another's; behind multipliers as the paper writes them."""
    found = sc.solve(STACK, optimizer="adamw", steps=1, require=["y = L^-1"])
    rows = {w: tuple(map(str, (s.init, s.lr, s.weight_decay, s.epsilon))) for w, s in found.scalings.items()}
    assert rows == COMPLETEP
    assert [m.name for m in found.matches] == ["completep"]
    assert set(found.fates.values()) == {"learning"}
    paper = sc.solve(
        STACK, optimizer="adamw", steps=1, require=["y = L^-1"],
        gauge="multiplier of W_2 = L^(-1), multiplier of W_out = N^(-1)",
    )  # fmt: skip
    written = {w: tuple(map(str, paper.scalings[w].given().values())) for w in ("W_2", "W_out")}
    assert written["W_2"] == ("N^(-1/2)", "L^(-1)", *COMPLETEP["W_1"][1:])
    assert written["W_out"] == ("1", "N^(-1)", "1", "1", "N^(-1)")


@pytest.mark.parametrize("weight", ["g", "b", "W_1", "W_2"])
def test_the_exponents_of_completep_are_the_largest(weight: str) -> None:
    """Each weight learns; L^(1/2) times its rate, or decay, explodes; L^(-1/2) times its rate, or a larger ε, is lazy."""

    def classes(**changed: Scale) -> set[str]:
        p = sc.parameterize(STACK, "completep", optimizer="adamw")
        p = replace(p, scalings={**p.scalings, weight: replace(p[weight], **changed)})
        table = sc.derive(STACK, parameterization=p, optimizer="adamw")
        return {table[row, "update", weight].klass for row in ("h", "v", "f")}

    own = sc.parameterize(STACK, "completep", optimizer="adamw")[weight]
    more = Scale.of("L", HALF)
    assert classes() == {"learning"}
    assert classes(lr=own.lr * more) == {"exploding"}
    assert classes(lr=own.lr / more, weight_decay=own.weight_decay) == {"lazy"}
    assert classes(epsilon=own.epsilon * more) == {"lazy"}


def test_completep_in_a_transformer_is_solved_but_for_the_epsilon_of_queries_and_keys() -> None:
    """Their first gradients are N^(1/2) smaller than those of all else in a block: keys are not aligned with queries yet."""
    found = sc.solve("transformer_depth", optimizer="adam", steps=1, require=["y = L^-1"])
    (match,) = found.matches
    published, needed = Scale.of("L", -1) * Scale.of("N", -1), Scale.of("L", -1) * Scale.of("N", -3 * HALF)
    assert match.name == "completep"
    assert match.found.differs == {w: {"epsilon": (needed, published)} for w in ("W_q", "W_k")}
    assert set(found.fates.values()) == {"learning", "learning further on"}
    assert found["W_v"].epsilon is found["W_1"].epsilon is published


@pytest.mark.parametrize(("weight", "n"), [("dW_q", -1.5), ("dW_v", -1.0)])
def test_the_gradients_that_epsilon_is_compared_with_are_measured(weight: str, n: float) -> None:
    def size(width: int, depth: int) -> float:
        got = numbers("transformer_depth", [weight], {"N": width, "L": depth}, 8)[weight]
        return float(got.square().mean().log()) / 2

    assert abs((size(256, 2) - size(32, 2)) / math.log(8) - n) < 0.15
    assert abs((size(32, 16) - size(32, 4)) / math.log(4) + 1) < 0.25


@pytest.mark.parametrize("name", ["depth_mup", "completep"])
def test_a_parameterization_for_depth_is_mup_where_nothing_is_repeated(name: str) -> None:
    assert bool(sc.equivalent("mlp", "mup", name, optimizer="adam"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["depth_mup", "completep"])
def test_depth_is_measured(name: str) -> None:
    dims = {"N": [32, 64], "L": [4, 8, 16, 32]}
    table = sc.verify("residual_depth", parameterization=name, optimizer="adam", dims=dims, budget=6)
    counts = table.counts()
    assert not counts.get("disagrees")
    assert counts["agrees"] >= 5  # as many as a busy machine settles in these seconds


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_centring_changes_no_exponent(optimizer: str) -> None:
    """Squares of what is there once per block fluctuate block by block."""
    rms, layer = (
        sc.derive(f"residual_depth:branch=L^(-1/2),norm={norm}", parameterization="mup", optimizer=optimizer)
        for norm in ("rms", "layer")
    )
    assert {row.key: row.terms for row in layer if row.kind != "alignment"} == {
        row.key: row.terms for row in rms if row.kind != "alignment"
    }
    one = fluctuation(atom(stacked("W", 1), ("N", "L")))
    assert (block_slot(one.tensor), name_of(one.tensor)) == (1, "(W)²")


def test_what_is_known_of_a_block_is_not_computed_again() -> None:
    """A tensor within the blocks that is given takes part in every block as it is."""
    model = resolve("residual_depth", optimizer="sgd")
    program = model.program
    names = [i for i in range(len(program.ops)) if "L" in program.ops[i].axes and program.ops[i].inputs]
    start = next(iter(program.loops))
    within = next(i for i in names if i in inside(program, start))
    out = program.features["f"]
    leaves = draw_leaves(program, Setting({"N": 8, "L": 3}, 2, 0), model.scalings, program.live([out]))
    found = run(program, leaves, [within, out])
    again = run(program, {**leaves, within: found[within]}, [out])
    moved = run(program, {**leaves, within: 2 * found[within]}, [out])
    assert torch.allclose(again[out], found[out])
    assert not torch.allclose(moved[out], found[out])


# ---------------------------------------------------------------------- bad input


def blocks() -> tuple[Program, Tensor, Tensor, Tensor]:
    p = Program("demo", dims=("N", "L"), fixed={"batch": 2})
    x, W = p.input("x", "N batch"), p.weight("W", "L N N'", stacked="L")
    return p, x, W, layers(x, W, "L")


def test_a_block_adds_what_it_is_given_the_axes_of() -> None:
    _p, x, W, h = blocks()
    with pytest.raises(ProgramError, match="must have the same axes and L"):
        residual_sum(h, x)
    with pytest.raises(ProgramError, match="does not depend on what enters them"):
        residual_sum(h, matmul(W, tanh(x)))


def test_blocks_within_blocks_are_refused() -> None:
    p, _x, W, h = blocks()
    y = matmul(W, h)
    inner = layers(y, p.weight("V", "L' N N'", stacked="L'"), "L'")
    after = residual_sum(inner, tanh(inner))
    with pytest.raises(ProgramError, match="repeated blocks within them"):
        residual_sum(h, after)


def test_the_weights_of_all_blocks_have_the_sides_of_one() -> None:
    p, *_ = blocks()
    weight = p.weights["W"]
    assert (weight.fan_in, weight.fan_out, weight.copies) == (Scale.of("N"), Scale.of("N"), Scale.of("L"))
    assert weight.role == "hidden"


def test_a_block_has_one_matrix_or_two() -> None:
    with pytest.raises(InputError, match="one matrix or two"):
        resolve("residual_depth:matrices=3")
