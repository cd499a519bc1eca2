"""Parameters drawn again by their operations alone: as the factory draws them, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from scalecalc.trace.graph import seeded
from scalecalc.trace.tape import Recording, Tape


def built(make: Callable[[], nn.Module], seed: int) -> dict[str, torch.Tensor]:
    with seeded(seed):
        return {name: p.detach() for name, p in make().named_parameters()}


def taped(make: Callable[[], nn.Module]) -> Tape:
    with Recording() as recording:
        state = built(make, 0)
    tape = recording.tape(state)
    for seed in (0, 1, 2):
        tape.check(seed, built(make, seed))
    return tape


def test_a_bias_is_drawn_without_the_matrix_beside_it() -> None:
    tape = taped(lambda: nn.Linear(400, 3))
    assert tape.trusted == {"weight", "bias"}
    drawn = tape.draw("bias", 500, seed=7)
    assert drawn is not None
    assert drawn.shape == (500, 3)
    assert abs(float(drawn.std()) / (1 / (400 * 3) ** 0.5) - 1) < 0.06  # 1500 uniform numbers: .0115 is one standard error
    assert len(drawn.unique()) > 1490  # none twice
    again = tape.draw("bias", 500, seed=7)
    assert again is not None
    assert torch.equal(drawn, again)
    calls, _ = tape._parts[tape.state["bias"].memory]
    assert all(call.func.name() in ("aten::empty.memory_format", "aten::uniform_") for call in calls)


class Tied(nn.Module):
    """Slices written to, a copy, memory read as complex and as real numbers, an orthogonal matrix, a table given before."""

    TABLE = torch.arange(6.0)

    def __init__(self) -> None:
        super().__init__()
        w = torch.empty(4, 6)
        w[:2].normal_()
        w[2:] = self.TABLE.mul_(1.0) * w[0]
        self.w, self.copy = nn.Parameter(w), nn.Parameter(w.clone().double() / 2)
        self.pole = nn.Parameter(torch.view_as_real(torch.randn(5, dtype=torch.complex64)))
        self.turn = nn.Parameter(torch.empty(4, 4))
        nn.init.orthogonal_(self.turn)
        nn.init.trunc_normal_(w[:, 3], std=0.02)


def test_memory_that_is_written_in_parts() -> None:
    tape = taped(Tied)
    assert tape.trusted == {"w", "copy", "pole", "turn"}
    drawn = {name: tape.draw(name, 4, seed=3) for name in ("w", "turn", "pole")}
    w, turn, pole = drawn["w"], drawn["turn"], drawn["pole"]
    assert w is not None
    assert turn is not None
    assert pole is not None
    keep = [0, 1, 2, 4, 5]
    assert torch.allclose(w[:, 3][:, keep], (Tied.TABLE * w[:, 0])[:, keep])
    assert torch.allclose(turn @ turn.mT, torch.eye(4).expand(4, 4, 4), atol=1e-5)
    assert pole.shape == (4, 5, 2)
    assert torch.equal(Tied.TABLE, torch.arange(6.0))


def test_large_memory_is_not_held() -> None:
    """Nothing of a build is kept but the operations and what was there before."""
    assert not taped(lambda: nn.Linear(50, 50)).given


def with_parameters(**values: Callable[[], torch.Tensor]) -> Callable[[], nn.Module]:
    return lambda: nn.ParameterDict({name: nn.Parameter(value()) for name, value in values.items()})  # type: ignore[return-value]


def of_numpy() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(torch.initial_seed()).normal(size=3))


def rejected() -> torch.Tensor:
    while float((v := torch.randn(3)).sum()) < 0:
        pass
    return v


def some() -> torch.Tensor:
    v = torch.randn(40)
    return v[v > 0][:3].clone()


OWN = torch.Generator()


@pytest.mark.parametrize(
    ("make", "trusted"),
    [
        (with_parameters(a=of_numpy, b=lambda: torch.randn(3)), {"b"}),
        (with_parameters(a=rejected), set[str]()),
        (with_parameters(a=some), set[str]()),
        (with_parameters(a=lambda: torch.randn(3, generator=OWN)), set[str]()),
        (with_parameters(a=lambda: torch.randn(3, dtype=torch.complex64).conj().real.clone()), set[str]()),
    ],
)
def test_what_a_tape_does_not_know_is_left_to_the_factory(make: Callable[[], nn.Module], trusted: set[str]) -> None:
    tape = taped(make)
    assert tape.trusted == trusted
    assert tape.draw("a", 2, seed=0) is None


def test_a_factory_that_looks_at_what_is_no_draw() -> None:
    """Numbers of no seed may be looked at: depths at which layers are dropped, say."""
    share = with_parameters(a=lambda: torch.randn(3) * float(torch.linspace(0, 1, 3)[1]))
    assert taped(share).trusted == {"a"}


def test_what_is_seen_once_in_a_while() -> None:
    """Python looks, and sees from the first seeds what it does not always: the tape is given up where it does not."""
    tape = taped(with_parameters(a=lambda: torch.zeros(2) if float(torch.rand(1).round(decimals=1)) > 1 else torch.randn(2)))
    assert not tape.trusted  # a number that differs every time
    rare = with_parameters(a=lambda: torch.zeros(2) if bool(torch.rand(()) < 0.05) else torch.randn(2))
    tape = taped(rare)
    assert tape.trusted == {"a"}
    assert tape.draw("a", 500, seed=0) is None
    assert not tape.trusted
