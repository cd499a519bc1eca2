"""Torch modules as programs: what they compute, how their parameters start, and what is refused."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from modules import Net, net, refused, traced
from torch import nn

from scalecalc.errors import InputError
from scalecalc.trace import Found, trace
from scalecalc.trace.check import TraceError, check

warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")  # torch.export's own
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def inits(found: Found) -> dict[str, str]:
    return {name: str(s.init) for name, s in found.scalings.items()}


def mlp(N: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(8, N), nn.ReLU(), nn.Linear(N, N, bias=False), nn.Identity(), nn.Linear(N, 2, bias=False))


@pytest.fixture(scope="module")
def own() -> Found:
    return traced(mlp)


# ------------------------------------------------------------------ programs


def test_a_module_is_a_program(own: Found) -> None:
    program = own.program
    assert list(program.features) == ["0", "1", "2", "3", "4"]  # the identity has a row of its own, ReLU as well
    assert {w: v.role for w, v in program.weights.items()} == {
        "0.weight": "embedding", "0.bias": "vector", "2.weight": "hidden", "4.weight": "readout",
    }  # fmt: skip
    half = "N^(-1/2)"
    assert inits(own) == {"0.weight": "1", "0.bias": "1", "2.weight": half, "4.weight": half}
    assert own.widths == {"N": [16, 32, 64]}


class Block(nn.Module):
    def __init__(self, N: int, X: int):
        super().__init__()
        self.rank, self.states = 2, X
        self.inp, self.conv = nn.Linear(N, 4 * N, bias=False), nn.Conv1d(2 * N, 2 * N, 4, groups=2 * N, padding=3)
        self.select, self.step = nn.Linear(2 * N, 2 + 2 * X, bias=False), nn.Linear(2, 2 * N)
        self.A_log = nn.Parameter(torch.arange(1, X + 1).float().log().repeat(2 * N, 1))
        self.D, self.out, self.y = nn.Parameter(torch.ones(2 * N)), nn.Linear(2 * N, N, bias=False), nn.Identity()
        dt = torch.exp(torch.rand(2 * N) * 4.6 - 6.9)
        with torch.no_grad():
            self.step.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, z = self.inp(x).chunk(2, -1)
        u = F.silu(self.conv(u.transpose(1, 2))[:, :, : x.shape[1]].transpose(1, 2))
        dt, B, C = self.select(u).split([self.rank, self.states, self.states], -1)
        dt = F.softplus(self.step(dt)).unsqueeze(-1)
        decay, drive = torch.exp(dt * -torch.exp(self.A_log)), dt * B.unsqueeze(2) * u.unsqueeze(-1)
        h, ys = torch.zeros(x.shape[0], u.shape[-1], self.states), []
        for t in range(x.shape[1]):
            h = decay[:, t] * h + drive[:, t]
            ys.append((h @ C[:, t].unsqueeze(-1)).squeeze(-1))
        y = self.y(torch.stack(ys, 1))
        return self.out((y + self.D * u) * F.silu(z))


@pytest.mark.slow
def test_a_mamba_block() -> None:
    """Halves that are sliced are matrices of their own; A is exact in the states; Δ's bias is random about a mean."""

    def make(N: int = 8, X: int = 4) -> nn.Module:
        return Block(N, X)

    found = traced(make, 2, 3, "N")
    weights = found.program.weights
    assert {"inp.weight.0", "inp.weight.1", "select.weight.0", "select.weight.1", "select.weight.2"} <= set(weights)
    assert (weights["select.weight.0"].role, weights["select.weight.1"].role) == ("readout", "hidden")
    assert (weights["conv.weight"].role, weights["A_log"].role) == ("embedding", "vector")
    exact = {op.name: str(op.params["init"]) for op in found.program.ops if op.rule == "weight"}
    assert (exact["A_log"], exact["D"]) == ("log(n + 1)", "1")
    assert -5.5 < float(exact["step.bias"]) < -4
    assert any(op.rule == "mamba" for op in found.program.ops)  # exp(Δ A) is the decay of a discretization
    sizes = {str(m) for m in found.program.multiples.values()}
    assert sizes == {"2"}


@pytest.mark.parametrize("heads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_attention(heads: int) -> None:
    """Queries, keys and values are matrices of their own, and the bias of the keys has no effect."""

    def make(N: int = 16) -> nn.Module:
        return nn.TransformerEncoderLayer(N, heads, 4 * N, dropout=0.0, batch_first=True)

    found = traced(make, 2, 3, "N")
    assert {f"self_attn.in_proj_weight.{k}" for k in range(3)} <= set(found.program.weights)
    assert "self_attn.in_proj_bias.1" not in found.program.weights
    assert any("self_attn.in_proj_bias.1" in remark for remark in found.program.remarks)
    assert any("ε" in remark for remark in found.program.remarks)


@pytest.mark.slow
def test_a_growing_number_of_heads() -> None:
    def make(H: int = 2) -> nn.Module:
        def attend(m: Any, x: torch.Tensor) -> torch.Tensor:
            q, k, v = (w(x).view(2, 3, -1, 4).transpose(1, 2) for w in (m.q, m.k, m.v))
            return m.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

        return Net(attend, **{name: nn.Linear(4 * H, 4 * H) for name in "qkvo"})

    found = trace(make, lambda H: (torch.randn(2, 3, 4 * H),))
    assert found.program.dims == ("H",)


def written_out(h: torch.Tensor) -> torch.Tensor:
    return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-5)


WAYS: Mapping[str, tuple[Callable[..., Any], Callable[[int], dict[str, Any]]]] = {
    "a weight used as a function": (lambda m, x: m.o((m.a.weight @ x.T).T.relu()), lambda N: {"a": nn.Linear(8, N)}),
    "a weight used twice": (lambda m, x: m.o(m.s(m.s(m.a(x)).tanh())),
                            lambda N: {"a": nn.Linear(8, N), "s": nn.Linear(N, N)}),
    "a transposed use": (lambda m, x: m.o((m.s(m.a(x)).tanh() @ m.s.weight).relu()),
                         lambda N: {"a": nn.Linear(8, N), "s": nn.Linear(N, N)}),
    "einsum": (lambda m, x: m.o(torch.einsum("bi,oi->bo", x, m.a.weight).sigmoid()), lambda N: {"a": nn.Linear(8, N)}),
    "an in-place write": (lambda m, x: m.o(m.a(x).mul_(2.0).add_(1.0).relu_()), lambda N: {"a": nn.Linear(8, N)}),
    "a buffer": (lambda m, x: m.o(m.a(x) * m.c), lambda N: {"a": nn.Linear(8, N), "c": torch.full((N,), 0.5)}),
    "concatenation": (lambda m, x: m.o(torch.cat([m.a(x), m.b(x).relu()], -1)),
                      lambda N: {"a": nn.Linear(8, N), "b": nn.Linear(8, N), "o": nn.Linear(2 * N, 2, bias=False)}),
    "a ratio": (lambda m, x: m.o(m.b(m.a(x)).relu()),
                lambda N: {"a": nn.Linear(8, N), "b": nn.Linear(N, N // 4), "o": nn.Linear(N // 4, 2, bias=False)}),
    "a mean": (lambda m, x: m.a(x).abs().mean(-1, keepdim=True) * m.o(m.a(x)), lambda N: {"a": nn.Linear(8, N)}),
    "a power of a width": (lambda m, x: m.o(m.a(x).tanh() / m.a.out_features**0.5),
                           lambda N: {"a": nn.Linear(8, N)}),
    "rms norm": (lambda m, x: m.o(m.r(m.a(x))), lambda N: {"a": nn.Linear(8, N), "r": nn.RMSNorm(N)}),
    "a norm written out": (lambda m, x: m.o(written_out(m.a(x))), lambda N: {"a": nn.Linear(8, N)}),
    "a causal mask": (lambda m, x: m.o(F.scaled_dot_product_attention(m.a(x), m.b(x), m.c(x), is_causal=True)),
                      lambda N: {"a": nn.Linear(8, N), "b": nn.Linear(8, N), "c": nn.Linear(8, N)}),
    "a loop over layers": (lambda m, x: m.o(nn.Sequential(*[m.s] * 2)(m.a(x))),
                           lambda N: {"a": nn.Linear(8, N), "s": nn.Linear(N, N)}),
    "an unused parameter": (lambda m, x: m.o(m.a(x)), lambda N: {"a": nn.Linear(8, N), "idle": nn.Linear(N, N)}),
    "an ordinary convolution": (lambda m, x: m.o(m.c(m.a(x).unsqueeze(-1).expand(-1, -1, 5))[..., 2]),
                                lambda N: {"a": nn.Linear(8, N), "c": nn.Conv1d(N, N, 3)}),
}  # fmt: skip


FAST = ("a weight used as a function", "a ratio", "an in-place write")


@pytest.mark.parametrize("way", [w if w in FAST else pytest.param(w, marks=pytest.mark.slow) for w in WAYS])
def test_ways_to_write_a_module(way: str) -> None:
    """Each is traced, and reproduced in output and gradients (which tracing itself checks)."""
    forward, parts = WAYS[way]

    def make(N: int = 8) -> nn.Module:
        return Net(forward, **{"o": nn.Linear(N, 2, bias=False), **parts(N)})

    found = traced(make)
    assert found.program.loss is not None


def test_equal_sizes_are_told_apart() -> None:
    """Two dims of one width, and fixed axes of the same size as well."""

    def make(N: int = 8, M: int = 8) -> nn.Module:
        sides = ((8, N), (N, M), (M, 8))
        return nn.Sequential(*[layer for i, o in sides for layer in (nn.Linear(i, o, bias=False), nn.Tanh())])

    weights = traced(make, 8, 8).program.weights
    assert [w.axes for w in weights.values()] == [("N", "8"), ("M", "N"), ("8", "M")]


def test_token_indices() -> None:
    def make(N: int = 8) -> nn.Module:
        return nn.Sequential(nn.Embedding(11, N), nn.Linear(N, 2, bias=False))

    found = trace(make, lambda: (torch.tensor([[1, 4, 4], [0, 10, 2]]),))
    assert found.program.weights["0.weight"].role == "embedding"


# ------------------------------------------------------------------ what is refused, with one message


def branching(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.o(m.a(x)) if x.sum() > 0 else m.o(-m.a(x))


AWKWARD: Mapping[str, tuple[Callable[..., nn.Module], list[str]]] = {
    "control flow by data": (net(branching), ["branches on its data", "test_trace.py"]),
    "several unknown operations": (
        net(lambda m, x: m.o(torch.sort(m.a(x).lgamma())[0].digamma())),
        ["no rule for the operation aten.lgamma", "no rule for the operation aten.sort", "aten.digamma", "modules.py:"],
    ),
    "2N + 1": (
        net(lambda m, x: m.b(m.a(x)).sum(-1, keepdim=True) * m.o(m.a(x)), b=lambda N: nn.Linear(N, 2 * N + 1)),
        ["17 at N=8, 33 at N=16", "b.weight", "no constant times one growing dim"],
    ),
    "a root of what may be negative": (
        net(lambda m, x: m.o(m.a(x) * torch.rsqrt(m.a(x)))),
        ["of a tensor that may be zero or negative"],
    ),
    "a mask by data": (
        net(lambda m, x: m.o(m.a(x).masked_fill(m.a(x) > 0, -torch.inf).softmax(-1))),
        ["a mask that depends on data"],
    ),
    "dropout": (net(lambda m, x: m.o(F.dropout(m.a(x), 0.1, True))), ["dropout with p = 0.1", "module.eval()"]),
    "a norm of zero": (
        net(lambda m, x: m.o(F.rms_norm(m.z * m.a(x), (m.z.numel(),))), z=lambda N: nn.Parameter(torch.zeros(N))),
        ["modules.py:", "normalises what is zero at initialisation"],
    ),
    "a complex parameter": (
        net(lambda m, x: m.o((m.a(x) * m.c).abs()), c=lambda N: nn.Parameter(torch.ones(N, dtype=torch.complex64))),
        ["the parameter c is complex"],
    ),
    "complex tensors": (net(lambda m, x: m.o(torch.fft.fft(m.a(x)).real)), ["fft"]),
    "as many layers as the width": (
        net(lambda m, x: m.o(sum(m.a(x).relu() for _ in range(m.a.out_features)))),
        ["other operations at N=16 than at N=8", "no loop runs over it"],
    ),
    "a width that fails": (
        net(lambda m, x: m.o(m.b(m.a(x))), b=lambda N: nn.Linear(8, N)),
        ["fails at N=16", "RuntimeError"],
    ),
    "orthogonal": (
        net(lambda m, x: m.o(m.b(m.a(x))), b=lambda N: nn.utils.parametrizations.orthogonal(nn.Linear(N, N))),
        ["no rule for the operation"],
    ),
    "no parameter at work": (net(lambda m, x: x * 2), ["does not depend on any parameter"]),
}


QUICK = ("control flow by data", "several unknown operations", "a norm of zero", "2N + 1", "dropout", "a width that fails")


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in AWKWARD])
def test_awkward_modules_get_one_message(case: str) -> None:
    make, words = AWKWARD[case]
    message = refused(make)
    for word in words:
        assert word in message, message


@pytest.mark.slow
def test_what_is_no_width_is_said() -> None:
    def depth(N: int = 8, *, layers: int = 2) -> nn.Module:
        return nn.Sequential(nn.Linear(8, N), *[nn.Linear(N, N) for _ in range(layers)], nn.Linear(N, 2, bias=False))

    assert traced(depth, options={"layers": 3}).program.dims == ("N",)
    assert "no growing dim" in refused(lambda: mlp())
    assert "make it keyword-only" in refused(lambda N=8, bias=True: mlp(N))
    assert "no argument 'M'" in refused(mlp, fix={"M": 2})

    def layers(N: int = 8, L: int = 2) -> nn.Module:
        return depth(N, layers=L)

    message = refused(layers)
    assert "hold it with --fix L=…" in message
    assert traced(layers, fix={"L": 1}).program.dims == ("N",)


# ------------------------------------------------------------------ parameters


def start(values: Callable[[int], torch.Tensor]) -> Callable[..., nn.Module]:
    def make(N: int = 8) -> nn.Module:
        parts = {"a": nn.Linear(8, N), "o": nn.Linear(N, 2, bias=False), "p": nn.Parameter(values(N))}
        return Net(lambda m, x: m.o(m.a(x).relu() * m.p), **parts)

    return make


@pytest.mark.parametrize(
    ("values", "expression"),
    [
        (lambda N: torch.arange(1, N + 1).float().log(), "log(n + 1)"),
        pytest.param(lambda N: torch.full((N,), 0.25), "1/4", marks=pytest.mark.slow),
        pytest.param(lambda N: -torch.arange(N).float() - 1, "-n - 1", marks=pytest.mark.slow),
        (lambda N: 3 / torch.arange(1, N + 1).float(), "3/(n + 1)"),
        pytest.param(
            lambda N: 1 + 2 * torch.arange(1, N + 1).float().sqrt(), "2*sqrt(n + 1) + 1", marks=pytest.mark.slow
        ),
    ],
)
def test_exact_parameters(values: Any, expression: str) -> None:
    found = traced(start(values))
    assert next(str(op.params["init"]) for op in found.program.ops if op.name == "p") == expression


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (lambda N: torch.randn(N) * N**-0.75, "N^(-3/4)"),
        (lambda N: torch.randn(N) * N ** (-1 / 3), "N^(-1/3)"),
        (lambda N: torch.rand(N) - 0.5, "1"),
        (lambda N: torch.distributions.Laplace(0.0, 1.0 / N).sample((N,)), "N^(-1)"),
    ],
)
def test_random_parameters(values: Any, scale: str) -> None:
    assert inits(traced(start(values)))["p"] == scale


def test_a_mean_that_depends_on_a_width() -> None:
    """Its power is read off as well, and what is random about it is beside it."""
    program = traced(start(lambda N: 2 * N**-0.5 + torch.randn(N) / N)).program
    (p,) = (op for op in program.ops if op.name == "p")
    assert str(p.params["scale"]) == "N^(-1/2)"
    assert abs(float(p.params["init"]) - 2) < 0.05
    (spread,) = (op for op in program.ops if op.name == "spread of p")
    assert str(spread.params["scale"]) == "N^(-1)"


def test_a_small_parameter_that_depends_on_a_large_one() -> None:
    """Drawn without the large ones where it can be, else with them: the norms of the rows of a matrix are about 3^(-1/2)."""

    def make(N: int = 64) -> nn.Module:
        return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(N, 4)), nn.Linear(4, 2, bias=False))

    found = traced(make, 3, "N")
    (norms,) = (op for op in found.program.ops if op.name == "0.parametrizations.weight.original0")
    assert abs(float(norms.params["init"]) - 3**-0.5) < 0.02
    assert found.program.weights["0.parametrizations.weight.original1"].role == "readout"
    assert inits(found)["0.bias"] == "N^(-1/2)"


def slowly(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def matrix(values: Callable[[int], torch.Tensor]) -> Callable[..., nn.Module]:
    def make(N: int = 8) -> nn.Module:
        parts = {"a": nn.Linear(8, N), "o": nn.Linear(N, 2, bias=False), "p": nn.Parameter(values(N))}
        return Net(lambda m, x: m.o(m.a(x) @ m.p), **parts)

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (start(lambda N: torch.randn(N) * N**-0.42), r"N\^\(-0.4. ± .*no clear multiple of 1/4"),
        (start(lambda N: torch.randn(N) / torch.arange(1, N + 1)), "fall or grow along its axis 0"),
        (start(lambda N: torch.sin(torch.arange(N).float())), "no function of the index that is known"),
        (start(lambda N: torch.full((N,), 1.0 / (N + 3))), "a constant that is no product of powers of the widths"),
        (start(lambda N: math.log(N) + torch.randn(N)), "about a mean that is no constant times a power of the widths"),
        (matrix(lambda N: torch.randn(N, 1) @ torch.randn(1, N)), "not independent"),
        slowly(matrix(torch.eye), "varies along several axes"),
    ],
)
def test_parameters_that_have_no_law(make: Any, words: str) -> None:
    import re

    assert re.search(words, refused(make))


# ------------------------------------------------------------------ the optimizer that came with it


def test_rates_are_read_off_the_optimizer() -> None:
    """A hand-made scaling: rates per group at several widths, decay, and what is left out of training."""

    def make(N: int = 8) -> tuple[nn.Module, torch.optim.Optimizer]:
        module = mlp(N)
        groups = [
            {"params": [module[0].weight], "lr": 0.1},
            {"params": [module[2].weight], "lr": 0.3 / N, "weight_decay": 1e-2 * N},
            {"params": [module[4].weight], "lr": 0.3 * (N / 256) ** -0.5},
        ]
        return module, torch.optim.AdamW(groups, weight_decay=0.0)

    found = traced(make)
    assert found.optimizer == "adamw"
    assert {w: str(s.lr) for w, s in found.scalings.items()} == {
        "0.weight": "1", "2.weight": "N^(-1)", "4.weight": "N^(-1/2)",
    }  # fmt: skip
    assert {w: str(s.weight_decay) for w, s in found.scalings.items() if s.weight_decay} == {"2.weight": "N"}
    assert "not trained: 0.bias." in found.program.remarks


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), "sgd"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "momentum"),
        (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1), "sgd:decay=coupled"),
        (lambda p: torch.optim.Adam(p), "adam"),
        (lambda p: torch.optim.Adam(p, weight_decay=0.1), "adam_l2"),
    ],
)
def test_optimizers_by_their_class(optimizer: Any, name: str) -> None:
    from scalecalc.trace.optimizers import read
    from scalecalc.trace.sizes import Settings

    def make(N: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        module = mlp(N)
        return module, optimizer(module.parameters())

    found = read(make, Settings.around({"N": 8}), {})
    assert found is not None
    assert found.optimizer == name


def test_rates_that_are_no_power_are_refused() -> None:
    def make(N: int = 8) -> tuple[nn.Module, torch.optim.Optimizer]:
        module = mlp(N)
        return module, torch.optim.SGD(module.parameters(), lr=1 / (N + 3))

    assert "the lr of 0.weight is no product of powers of the widths" in refused(make)


# ------------------------------------------------------------------ the check


def test_a_wrong_program_is_caught(own: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relu traced as a tanh: the check says so, and nothing is derived."""
    from scalecalc.trace import handlers

    monkeypatch.setitem(handlers.TABLE, "aten.relu.default", handlers.TABLE["aten.tanh.default"])
    with pytest.raises(TraceError, match=r"the output differs by .* at N=8"):
        traced(mlp)
    assert callable(check)


def test_a_module_that_is_random_is_caught() -> None:
    def make(N: int = 8) -> nn.Module:
        return Net(lambda m, x: m.o(m.a(x) * m.noise), a=nn.Linear(8, N), o=nn.Linear(N, 2, bias=False), noise=torch.randn(N))

    with pytest.raises(InputError, match="the buffer noise is random"):
        traced(make)


# ------------------------------------------------------------------ as a model


FILE = """
import torch
from torch import nn

def net(N=16):
    return nn.Sequential(nn.Linear(8, N), nn.ReLU(), nn.Linear(N, N), nn.ReLU(), nn.Linear(N, 1, bias=False))

def example_inputs():
    return (torch.randn(4, 8),)


class Lines(nn.Module):
    def __init__(self, N):
        super().__init__()
        self.a = nn.Linear(8, N, bias=False)
        self.b = nn.Linear(N, N, bias=False)
        self.o = nn.Linear(N, 2, bias=False)

    def forward(self, x):
        h = self.a(x)
        h = h.relu()
        h = self.b(h)
        return self.o(h)

def lines(N=8):
    return Lines(N)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "mine.py"
    path.write_text(FILE)
    return path


def test_the_table_is_that_of_the_program_written_by_hand(file: Path) -> None:
    """A module under mup has the table of the built-in multilayer perceptron."""
    import scalecalc as sc

    mine, ours = sc.derive(f"{file}:net", parameterization="mup"), sc.derive("mlp:depth=2", parameterization="mup")
    names = {"0": "h1", "2": "h2", "4": "f"}
    weights = {"0.weight": "W_in", "2.weight": "W_2", "4.weight": "W_out"}
    for feature, name in names.items():
        if feature != "4":  # whose bias the program written by hand has not
            assert mine[feature, "init"].theta == ours[name, "init"].theta
        for weight, w in weights.items():
            if any(row.row == feature and row.tag == (weight,) for row in mine):
                assert mine[feature, "update", weight].theta == ours[name, "update", w].theta


class S6(nn.Module):
    """The layer of rules/architectures/s6.py with the discretization of mamba, in plain torch."""

    def __init__(self, N_u: int, N_x: int):
        super().__init__()
        self.W_in, self.W_out = nn.Linear(32, N_u, bias=False), nn.Linear(N_u, 4, bias=False)
        self.W_B, self.W_C = nn.Linear(N_u, N_x, bias=False), nn.Linear(N_u, N_x, bias=False)
        self.W_Delta, self.Delta = nn.Linear(N_u, N_u, bias=False), nn.Softplus()
        self.u, self.y = nn.Identity(), nn.Identity()
        self.register_buffer("A", -torch.arange(1.0, N_x + 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = self.u(self.W_in(x).tanh())
        B, C, dt = self.W_B(u), self.W_C(u), self.Delta(self.W_Delta(u) + 1)[..., None]
        decay, h, ys = torch.exp(dt * self.A), u.new_zeros(()), []
        for t in range(x.shape[1]):
            h = decay[:, t] * h + dt[:, t] * B[:, t, None] * u[:, t, :, None]
            ys.append(torch.einsum("bun,bn->bu", h, C[:, t]))
        return self.W_out(self.y(torch.stack(ys, 1)))


@pytest.mark.slow
def test_s6_in_torch_has_the_table_of_s6() -> None:
    """Row by row: sizes at initialisation, gradients, and what the update of each weight does to each feature."""
    from scalecalc.derive import derive, interpret, table_of
    from scalecalc.model import TorchModule, resolve
    from scalecalc.scale import Regime

    def make(N_u: int = 8, N_x: int = 4) -> nn.Module:
        return S6(N_u, N_x)

    def example_inputs() -> tuple[torch.Tensor, ...]:
        return (torch.randn(2, 2, 32),)

    for optimizer in ("sgd", "adam"):
        model = resolve(TorchModule(make, example_inputs), parameterization="mup", optimizer=optimizer)
        mine = table_of(interpret(model, Regime()))
        ours = derive("s6:discretization=mamba", parameterization="mup", optimizer=optimizer)
        named = {"B": "W_B", "C": "W_C", "f": "W_out"}
        compared = 0
        for row in ours:
            if row.kind == "alignment" or row.row == "h":
                continue
            name = f"{row.row}.weight" if row.row.startswith("W_") else named.get(row.row, row.row)
            tag = tuple(f"{w}.weight" for w in row.tag)
            found = [r for r in mine if (r.row, r.kind, r.tag) == (name, row.kind, tag)]
            assert [set(r.terms) for r in found] == [set(row.terms)], (optimizer, row.label)
            compared += 1
        assert compared > 20


def test_what_a_file_does_not_give_is_as_built(file: Path, tmp_path: Path) -> None:
    from scalecalc.model import resolve

    given = tmp_path / "p.toml"
    given.write_text('["*.weight"]\nlr = {N = "-1"}\n["4.weight"]\ninit = {N = "-1"}\n')
    found = resolve(f"{file}:net", parameterization=str(given)).scalings
    assert [str(found[w].init) for w in ("2.weight", "2.bias", "4.weight")] == ["N^(-1/2)", "N^(-1/2)", "N^(-1)"]
    assert [str(found[w].lr) for w in ("2.weight", "2.bias", "4.weight")] == ["N^(-1)", "1", "1"]


def test_a_file_says_what_no_law_reads_off(tmp_path: Path) -> None:
    """An init that is refused as built is what the file says."""
    from scalecalc.model import resolve

    file = tmp_path / "fixup.py"
    file.write_text(FILE.replace("h = h.relu()", "h = h.relu() * self.s").replace("N, 2, bias=False)\n\n    def", SINES))
    with pytest.raises(InputError, match="the parameter s is the same from every seed"):
        resolve(f"{file}:lines")
    given = tmp_path / "p.toml"
    given.write_text('[s]\ninit = {N = "-1/2"}\n')
    found = resolve(f"{file}:lines", parameterization=str(given))
    assert str(found.scalings["s"].init) == "N^(-1/2)"
    assert any("s is taken to start independent" in remark for remark in found.program.remarks)


SINES = """N, 2, bias=False)
        self.s = nn.Parameter(torch.sin(torch.arange(N).float()))

    def"""


def test_source_lines_with_sizes(file: Path) -> None:
    """Standard parameterization: the readout's input grows like N once the hidden matrix has moved by one rate for all."""
    from scalecalc.annotate import annotate

    text = annotate(f"{file}:lines", optimizer="adam")
    shown: dict[str, list[str]] = {}
    for line in text.splitlines()[3:]:
        sizes, _, source = line.partition("│")
        shown[source.strip().partition(" ")[2].strip()] = sizes.split(maxsplit=1)
    lines = ("h = self.a(x)", "h = h.relu()", "h = self.b(h)", "return self.o(h)")
    assert [shown[line][0] for line in lines] == ["1", "1", "1", "1"]
    assert [shown[line][1].split()[0] for line in lines] == ["1", "1", "N", "N^(3/2)"]
    assert "(b.weight)" in shown["h = self.b(h)"][1]
    with pytest.raises(InputError, match="mlp is no torch module of yours"):
        annotate("mlp")


@pytest.mark.slow
def test_assert_scaling_says_what_explodes() -> None:
    from scalecalc.testing import assert_scaling

    def example_inputs() -> tuple[torch.Tensor, ...]:
        return (torch.randn(3, 8),)

    with pytest.raises(AssertionError, match=r"rows of mlp explode with the widths:\n(.*\n)*.* by 2.weight, step 1: N"):
        assert_scaling(mlp, example_inputs, optimizer="adam")


@pytest.mark.slow
def test_mambapy() -> None:
    """A block that nobody here wrote: Δ's product as a function of a weight, of rank ⌈N/16⌉, and A in the states."""
    from mambapy.mamba import MambaBlock, MambaConfig

    from scalecalc.derive import derive
    from scalecalc.model import TorchModule

    def make(N: int = 32, X: int = 8) -> nn.Module:
        return MambaBlock(MambaConfig(d_model=N, n_layers=1, d_state=X, pscan=False))

    def example_inputs(N: int) -> tuple[torch.Tensor, ...]:
        return (torch.randn(2, 2, N),)

    table = derive(TorchModule(make, example_inputs), optimizer="adam")
    built = {w: str(s.init) for w, s in table.parameterization.items()}
    half = "N^(-1/2)"
    assert (built["x_proj.weight.1"], built["dt_proj.weight"], built["in_proj.weight.0"]) == (half, half, half)
    assert table["out_proj", "init"].formula() == "X^(1/2)"  # Euler's B: nothing pays for the sum over the states
    # as built, with one rate for all: a finite fan-out behind the states, A elementwise, Δ's bias
    assert table["out_proj", "update", "x_proj.weight.1"].formula() == "N X"
    assert table["out_proj", "update", "A_log"].formula() == "1"
    assert table["out_proj", "update", "dt_proj.bias"].formula() == "X^(1/2)"


@pytest.mark.slow
def test_assert_scaling() -> None:
    from scalecalc.testing import assert_scaling

    def example_inputs() -> tuple[torch.Tensor, ...]:
        return (torch.randn(3, 8),)

    table = assert_scaling(mlp, example_inputs, parameterization="mup", optimizer="adam", dims={"N": [32, 64, 128]}, budget=4)
    assert table.counts()["agrees"] > 10


@pytest.mark.slow
def test_a_module_verified(file: Path) -> None:
    import scalecalc as sc
    from scalecalc.testing import assert_agrees

    rows = sc.verify(f"{file}:net", parameterization="mup", budget=8)
    assert_agrees(rows)
