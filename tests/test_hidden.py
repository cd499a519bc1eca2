"""States that are not stored, and passes in tiles: the same numbers as from whole tensors, operation by operation."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial

import pytest
import torch

from scalecalc.derive import interpret, resolve, table_of
from scalecalc.measure import contributions, hidden, tiles
from scalecalc.measure.contributions import Plan, measure
from scalecalc.measure.interpret import Setting, draw_leaves, elements, rms, run
from scalecalc.scale import FREE

compiled = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")
WIDTHS = {"N_u": 48, "N_x": 20}


def plan_of(name: str = "s6", steps: int = 1, **options: str | bool) -> Plan:
    model = resolve(name, options=options)
    table = table_of(interpret(model, FREE, corrections=True, steps=steps))
    return Plan(model, tuple(row for row in table.rows if len(row.tag) <= 2))


@compiled
@pytest.mark.parametrize(
    ("model", "steps", "options"),
    [
        ("s6", 2, {}),
        ("s6", 1, {"transition": "s4d_lin", "residual": True}),
        ("s6", 1, {"transition": "lru", "step": "fixed"}),
        ("s6", 1, {"discretization": "mamba", "step": "mamba", "skip": True, "gate": True}),
        ("ssd", 1, {}),
        ("s4d", 1, {}),
        ("linear_attention", 1, {"decay": "fixed", "norm": False, "gate": False}),
    ],
    ids=lambda o: " ".join(map(str, o.values())) if isinstance(o, dict) else str(o),
)
def test_every_row_is_the_same(
    monkeypatch: pytest.MonkeyPatch, model: str, steps: int, options: Mapping[str, str | bool]
) -> None:
    """Whole tensors; fused scans with the rest whole; fused scans and tiles of a few channels that do not divide N_u."""
    plan, widths = plan_of(model, steps, **options), {"N": 24} if model == "linear_attention" else WIDTHS
    setting = Setting(widths, 3, 7)
    whole = measure(plan, setting)
    assert plan.forward(setting) is plan.model.program  # so few states are not worth a compilation
    monkeypatch.setattr(contributions, "LEAST", 0)
    monkeypatch.setattr(contributions, "FEW", 0)
    forward = plan.forward(setting)
    cut = tiles.tiling(forward)
    assert forward is not plan.model.program
    assert cut is not None
    assert cut.works
    monkeypatch.setattr(tiles, "TILE", 3 * 7 * 8 * 2 * 20)
    for found in (measure(plan, setting), _measured_untiled(monkeypatch, plan, setting)):
        assert found.keys() == whole.keys()
        for key, logs in found.items():
            torch.testing.assert_close(logs, whole[key], rtol=0, atol=1e-7, msg=str(key))


@pytest.mark.parametrize("options", [{}, {"train_B": True, "step": "trained"}], ids=["fixed", "trained"])
def test_banks_per_channel(monkeypatch: pytest.MonkeyPatch, options: Mapping[str, str | bool]) -> None:
    """S4D's y and h, with an input factor and a step per channel or none: by the loop, which needs no compilation."""
    for name in ("selective_scan", "combination"):
        monkeypatch.setattr(hidden, name, partial(getattr(hidden, name), backend="reference"))
    model = resolve("s4d", options=options)
    fused = hidden.without_states(model.program)
    assert fused is not model.program
    h, y = (model.program.features[name] for name in ("h", "y"))
    leaves = draw_leaves(fused, Setting(WIDTHS, 3, 7), model.scalings, [True] * len(fused.ops))
    stored, implied = (run(program, leaves, [h, y]) for program in (model.program, fused))
    torch.testing.assert_close(implied[y], stored[y], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(hidden.rms_of([implied[h]], [1.0]), rms(stored[h]), rtol=1e-12, atol=0)


def _measured_untiled(monkeypatch: pytest.MonkeyPatch, plan: Plan, setting: Setting) -> dict:
    with monkeypatch.context() as patch:
        patch.setattr(contributions, "tiling", lambda _: None)
        return measure(plan, setting)


@compiled
def test_norms_of_states_that_are_not_stored() -> None:
    """Of one h, of a first and a second difference, against the tensors; and what may not be fused is not."""
    plan = plan_of()
    program, fused = plan.model.program, plan.without_states
    h, y = program.features["h"], program.features["y"]
    every, scalings = [True] * len(program.ops), plan.model.scalings
    drawn = [draw_leaves(program, Setting(WIDTHS, 3, seed), scalings, every) for seed in (1, 2, 3)]
    stored = [run(program, leaves, [h, y]) for leaves in drawn]
    implied = [run(fused, leaves, [h, y]) for leaves in drawn]
    for a, b in zip(stored, implied, strict=True):
        assert isinstance(b[h], hidden.Hidden)
        torch.testing.assert_close(a[y], b[y], rtol=1e-12, atol=1e-14)
    for coefficients in ([1.0], [1.0, -1.0], [1.0, -2.0, 1.0]):
        members = range(len(coefficients))
        exact = rms(sum(c * stored[k][h] for k, c in zip(members, coefficients, strict=True)))
        torch.testing.assert_close(hidden.rms_of([implied[k][h] for k in members], coefficients), exact, rtol=1e-12, atol=0)
    mlp = resolve("mlp").program
    assert hidden.without_states(mlp) is mlp
    lti = resolve("lti").program  # one bank of states for all channels: h is no larger than its input
    assert hidden.without_states(lti) is lti


@compiled
def test_memory_that_states_do_not_take() -> None:
    """A setting is expected to hold no tensor of states of every channel, one or two steps."""
    settings = [Setting({"N_u": 512, "N_x": n}, 1, 0) for n in (1024, 4096)]
    for plan in (plan_of(), plan_of(steps=2)):
        small, large = map(plan.held, settings)
        assert large < 5 * small
        assert large < elements(plan.model.program, settings[1].widths) / 5


def test_scans_within_repeated_blocks_are_not_fused() -> None:
    program = resolve("s6_depth").program
    assert hidden.without_states(program) is program
