"""Ways to write what a network does in torch: each is traced, and tracing checks output and gradients of the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from modules import Net, net, refused, traced
from torch import nn

from scalecalc.trace import Found, Slow, trace

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def steps(m: Any, x: torch.Tensor) -> torch.Tensor:
    """A state per time step, (3, 4, N): what is written along time."""
    return m.a(x).unsqueeze(1) * torch.arange(1.0, 5.0, dtype=x.dtype).reshape(1, 4, 1)


def slices(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = torch.zeros(3, 3, m.a.out_features, dtype=x.dtype)
    h[:, 0] = m.a(x)
    h[:, 1:] = h[:, :1].tanh()
    return m.o(h)


def without_gradient(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = m.a(x)
    with torch.no_grad():
        size = 1 + h.abs().mean(-1, keepdim=True)
    return m.o(h / size)


def kept(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.last = m.a(x)  # for somebody to look at later
    return m.o(m.last.relu())


def scores(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = steps(m, x)
    return h @ h.mT * m.a.out_features**-0.5


def causal(values: float) -> torch.Tensor:
    return torch.full((4, 4), values, dtype=torch.float64).triu(1)


def normed(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = m.a(x)
    return (h - h.mean(-1, keepdim=True)) / torch.sqrt(h.var(-1, keepdim=True, unbiased=False) + 1e-5)


def rotated(m: Any, x: torch.Tensor) -> torch.Tensor:
    """A rotary embedding of four heads in one vector, with a table of angles that depends on the index and the width."""
    q = m.a(x).view(3, 1, 4, -1)
    angles = torch.arange(1, 6, dtype=x.dtype).reshape(1, 5, 1, 1) * torch.cat([m.f, m.f])
    first, second = q.chunk(2, -1)
    return m.o((q * angles.cos() + torch.cat([-second, first], -1) * angles.sin()).flatten(2))


def frequencies(N: int) -> torch.Tensor:
    half = N // 8
    return 100.0 ** (-torch.arange(half) / half)


def grouped(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Four heads of queries, two of keys and values."""
    heads = steps(m, x).view(3, 4, 4, -1).transpose(1, 2)
    found = F.scaled_dot_product_attention(heads, heads[:, :2], heads[:, :2], enable_gqa=True)
    return m.o(found.transpose(1, 2).flatten(2))


def chosen(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Comparisons of every kind, bounds on one side, the larger and the smaller of two."""
    h = steps(m, x)
    h = torch.where((h > 0.1) & ~(h >= 1), h.tanh(), 0.1 * h) + (h < 0.2) * h.sigmoid() + (h <= h.sin()) * h.cos()
    h = h.masked_fill(h > 2, 0.5)
    h = h + torch.maximum(h, -0.5 * h) + torch.minimum(h.tanh(), 0.5 * h) + h.clamp(min=-0.3) + h.clamp(max=0.4)
    return m.o(F.celu(h) + F.threshold(h, 0.2, 0.1) + h.sigmoid().clamp(1e-6, torch.inf).reciprocal())


def pooled(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Means and maxima of windows, windows themselves, and what is taken again and again along an axis."""
    h = steps(m, x).mT
    maxima = F.max_pool1d(h, 2).repeat(1, 1, 2) + h.amax(-1, keepdim=True)
    means = F.avg_pool1d(h, 2, 1, 1)[..., :4] + F.adaptive_avg_pool1d(h, 3).sum(-1, keepdim=True)
    return m.o((maxima + means + F.pad(h, (1, 0)).unfold(-1, 2, 1).sum(-1) + F.pad(h, (1, -1))).mT)


def composed(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Operations that torch makes of smaller ones."""
    h = steps(m, x).tanh()
    h = h.flatten(0, 1).view_as(h) + h.movedim(1, 2).swapaxes(1, 2) + torch.addcmul(h, h.tanh(), h.sigmoid(), value=0.5)
    h = F.mish(h) + F.softsign(h) + torch.expm1(h) + torch.sinh(h) + torch.cosh(h) + torch.atan(h)
    return m.o(h.sigmoid().cumprod(1) + h.softmax(-1, dtype=torch.float32))


WAYS: Mapping[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "a write to a slice": (slices, ("padded",)),
    "no gradient": (without_gradient, ("stop", "reciprocal")),
    "detach": (lambda m, x: m.o(m.a(x) * m.a(x).detach()), ("stop",)),
    "a disabled autocast": (lambda m, x: torch.autocast("cpu", enabled=False)(m.o)(m.a(x)), ()),
    "vmap": (lambda m, x: torch.func.vmap(lambda row: (m.o.weight @ (m.a.weight @ row).tanh()))(x), ("tanh",)),
    "an attribute that is set": (kept, ("relu",)),
    "a dict": (lambda m, x: {"output": m.o(m.a(x)), "aside": m.a(x).sum().sort()}, ()),
    "division by a sum": (lambda m, x: m.o(m.a(x) / (1 + m.a(x).abs().mean(-1, keepdim=True))), ("reciprocal",)),
    "a softmax written out": (lambda m, x: (lambda e: m.o(e / e.sum(-1, keepdim=True)))(torch.exp(m.a(x))), ("softmax",)),
    "a unit vector": (lambda m, x: m.o(F.normalize(m.a(x), dim=-1)), ("rmsnorm",)),
    "a norm by division": (lambda m, x: (lambda h: m.o(h / (h.square().mean(-1, True) + 1e-6).sqrt()))(m.a(x)), ("rmsnorm",)),
    "a norm by a power": (lambda m, x: (lambda h: m.o(h * (h * h).mean(-1, True).add(1e-6) ** -0.5))(m.a(x)), ()),
    "a layer norm written out": (lambda m, x: m.o(normed(m, x)), ("centre", "rmsnorm")),
    "a root that is no norm": (lambda m, x: m.o(m.a(x) * torch.rsqrt(m.a(x).relu().pow(2).mean(-1, True) + 1)), ()),
    "leaky relu": (lambda m, x: m.o(F.leaky_relu(m.a(x), 0.2)), ("leaky_relu(0.2)",)),
    "elu": (lambda m, x: m.o(F.elu(m.a(x))), ("elu(1)",)),
    "glu": (lambda m, x: m.o(F.glu(torch.cat([m.a(x), m.a(x)], -1))), ("sigmoid",)),
    "powers": (lambda m, x: m.o(m.a(x) ** 3 + m.a(x) ** 4), ("square",)),
    "three operands": (lambda m, x: m.o(torch.einsum("bi,bj,bj->bi", m.a(x), m.a(x), m.a(x)) / m.a.out_features), ()),
    "an ellipsis": (lambda m, x: m.o(torch.einsum("...i,oi->...o", x, m.a.weight)), ("matmul",)),
    "an einsum of one": (lambda m, x: m.o(torch.einsum("bi->ib", m.a(x)).T), ()),
    "bmm": (lambda m, x: m.o(torch.bmm(scores(m, x), steps(m, x))), ()),
    "a cumulative sum": (lambda m, x: m.o(steps(m, x).cumsum(1)), ()),
    "flip, roll, pad, pick": (
        lambda m, x: m.o(F.pad(steps(m, x).flip(1).roll(1, 1), (0, 0, 1, 0))[:, torch.tensor([0, 2])]), ()),
    "repeated heads": (
        lambda m, x: m.o(m.a(x).view(3, 2, -1).repeat_interleave(2, 1).view(3, 2, 2, -1)[:, :, 1].flatten(1)), ()),
    "an additive mask": (lambda m, x: m.o((scores(m, x) + causal(-torch.inf)).softmax(-1) @ steps(m, x)), ("softmax",)),
    "the least number": (lambda m, x: m.o((scores(m, x) + causal(-1e30)).softmax(-1) @ steps(m, x)), ("softmax",)),
    "a finite mask": (lambda m, x: m.o((scores(m, x) + causal(-2.0)).softmax(-1) @ steps(m, x)), ("softmax",)),
    "masked_fill": (lambda m, x: m.o(scores(m, x).masked_fill(causal(1.0).bool(), -torch.inf).softmax(-1) @ steps(m, x)), ()),
    "where": (lambda m, x: m.o(torch.where(causal(1.0) == 0, scores(m, x), -torch.inf).softmax(-1) @ steps(m, x)), ()),
    "a triangle": (lambda m, x: m.o(scores(m, x).tril() @ steps(m, x)), ()),
    "attention with a mask": (
        lambda m, x: m.o(F.scaled_dot_product_attention(steps(m, x), steps(m, x), steps(m, x), causal(1.0) == 0)), ()),
    "grouped queries": (grouped, ("softmax",)),
    "a number with a power of the width": (lambda m, x: m.o(m.a(x) * m.t), ()),
    "positions": (lambda m, x: m.o(m.e(torch.arange(4)) + steps(m, x)), ()),
    "a causal convolution": (lambda m, x: m.o(m.c(steps(m, x).mT)[..., :4].mT), ("windows",)),
    "rotary": (rotated, ("cos", "sin")),
    "choices": (chosen, ("step", "relu")),
    "pooling": (pooled, ("largest",)),
    "what torch composes": (composed, ("expm1", "sinh", "cosh", "atan")),
    "an output that is repeated": (lambda m, x: m.o(steps(m, x).tanh().mean(1, keepdim=True)).expand(3, 4, 2), ()),
    "an unbiased deviation": (lambda m, x: m.o(m.a(x) / (m.a(x).std(-1, keepdim=True) + 1e-5)), ("root", "centre")),
    "decays between positions": (
        lambda m, x: m.o(scores(m, x).masked_fill(causal(1.0).bool(), -torch.inf).exp() @ steps(m, x)), ("exp",)),
}  # fmt: skip
FAST = ("choices", "pooling", "a write to a slice", "no gradient", "an additive mask", "rotary", "a layer norm written out")


def build(forward: Callable[..., Any], **more: Callable[[int], Any]) -> Callable[..., nn.Module]:
    def make(N: int = 32) -> nn.Module:
        parts = {"t": nn.Parameter(torch.tensor(N**-0.5)), "e": nn.Embedding(4, N), "f": frequencies(N)}
        parts |= {"c": nn.Conv1d(N, N, 3, groups=N, padding=2), **{name: part(N) for name, part in more.items()}}
        return Net(forward, a=nn.Linear(8, N), o=nn.Linear(N, 2, bias=False), **parts)

    return make


@pytest.mark.parametrize("way", [w if w in FAST else pytest.param(w, marks=pytest.mark.slow) for w in WAYS])
def test_ways(way: str) -> None:
    forward, rules = WAYS[way]
    program = traced(build(forward)).program
    assert set(rules) <= {op.rule for op in program.ops}
    assert ("make_fx" in str(program.remarks)) == (way == "vmap")


def test_what_is_computed_from_numbers_alone_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """That took three decompositions at every width."""
    def apart(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", apart)
    assert "index" in {op.rule for op in traced(build(lambda m, x: m.o(m.a(x) * torch.arange(1.0, 5.0)[3]))).program.ops}


def norms(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Over groups of channels, over the batch, over positions, and over two axes at once."""
    h = F.batch_norm(F.group_norm(steps(m, x).mT, 4), None, None, m.w, training=True)
    return m.o(F.layer_norm(F.instance_norm(h).mT, (4, m.w.numel())))


def images(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Patches; one tap; a wide window; groups of several channels."""
    h = F.conv2d(m.c(x.view(3, 1, 2, 4).repeat_interleave(2, 2)), m.one, stride=2)
    h = F.conv2d(F.conv2d(h, m.wide, padding="same", dilation=2), m.grouped, groups=2)
    return m.o(h.sum((2, 3)))


def test_norms_over_several_axes() -> None:
    program = traced(build(norms, w=lambda N: nn.Parameter(torch.ones(N)))).program
    over = [op.params["over"] for op in program.ops if op.rule == "rmsnorm"]
    assert [len(o) if isinstance(o, tuple) else 1 for o in over] == [2, 2, 1, 2]


def test_convolutions_of_images() -> None:
    def weight(*shape: int) -> Callable[[int], Any]:
        return lambda N: nn.Parameter(torch.randn([n or N for n in shape]))

    parts = {"one": weight(0, 0, 1, 1), "wide": weight(0, 0, 2, 2)}
    grouped = {"grouped": lambda N: nn.Parameter(torch.randn(N, N // 2, 1, 1)), "c": lambda N: nn.Conv2d(1, N, 2)}
    weights = traced(build(images, **parts, **grouped)).program.weights
    assert {w: weights[w].role for w in ("c.weight", *parts, "grouped")} == {
        "c.weight": "embedding", "one": "hidden", "wide": "hidden", "grouped": "hidden",
    }  # fmt: skip


def test_the_projects_own_scan() -> None:
    """It is the discretization and the recurrence of a program."""
    from scalecalc.measure.scan import selective_scan

    def make(N: int = 8, X: int = 4) -> nn.Module:
        def scan(m: Any, x: torch.Tensor) -> torch.Tensor:
            u = m.a(x)
            return m.o(selective_scan(u, m.a(x).exp(), -m.A.exp(), m.B(u), m.C(u), D=m.D, discretization="mamba"))

        parts = {"B": nn.Linear(N, X), "C": nn.Linear(N, X), "D": nn.Parameter(torch.ones(N))}
        A = nn.Parameter(torch.arange(1.0, X + 1).log().repeat(N, 1))
        return Net(scan, a=nn.Linear(8, N), A=A, o=nn.Linear(N, 2, bias=False), **parts)

    program = traced(make, 2, 3, 8).program
    assert {"mamba", "recurrence"} <= {op.rule for op in program.ops}


class Heads(nn.Module):
    """Queries, keys and values in one matrix, by halves of which every head is rotated."""

    def __init__(self, N: int, heads: int, chunked: bool):
        super().__init__()
        self.heads, self.chunked, self.qkv, self.o = heads, chunked, nn.Linear(8, 3 * N), nn.Linear(N, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.chunked:
            q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(x).chunk(3, -1))
        else:
            q, k, v = self.qkv(x).unflatten(-1, (self.heads, -1)).chunk(3, -1)
        size = q.shape[-1]
        angles = torch.arange(3.0)[:, None, None] * 100.0 ** (-torch.arange(0, size, 2) / size)
        q, k = (torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)
                for a, b in (q.chunk(2, -1), k.chunk(2, -1)))  # fmt: skip
        return self.o(F.scaled_dot_product_attention(q, k, v).flatten(-2))


@pytest.mark.parametrize("chunked", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_queries_and_keys_in_one_matrix_are_rotated(chunked: bool) -> None:
    """Cut in three and inside every head, or only there: every piece is a matrix of its own."""
    weights = traced(lambda N=16: Heads(N, 2, chunked), 2, 3, 8).program.weights
    assert [w for w in weights if "qkv.weight" in w] == [f"qkv.weight.{k}" for k in range(5)]
    assert {weights[f"qkv.weight.{k}"].axes for k in range(4)} == {("N", "8")}


def test_an_axis_of_two_growing_dims() -> None:
    """Heads × size of a head: two axes of the program, in the order in which the one axis is split."""

    def make(D: int = 4, H: int = 2, *, again: bool = False) -> nn.Module:
        def attend(m: Any, x: torch.Tensor) -> torch.Tensor:
            q, v = (w(x).unflatten(-1, (H, D)).transpose(1, 2) for w in (m.q, m.v))
            y = F.scaled_dot_product_attention(q, q, v).transpose(1, 2).flatten(2)
            return m.o(F.layer_norm(y.unflatten(-1, (D, H)).flatten(2) if again else y, (H * D,)))

        return Net(attend, q=nn.Linear(8, H * D), v=nn.Linear(8, H * D), o=nn.Linear(H * D, H * D, bias=False))

    found = traced(make, 2, 3, 8)
    weights = found.program.weights
    assert (weights["q.weight"].axes, weights["o.weight"].role) == (("H", "D", "8"), "hidden")
    assert str(found.scalings["o.weight"].init) == "D^(-1/2) H^(-1/2)"
    message = refused(make, 2, 3, 8, options={"again": True})
    assert "split in two different ways" in message
    assert "modules.py:" in message


def test_many_matrices_between_products_of_growing_dims() -> None:
    """What takes minutes to derive is announced."""

    def make(H: int = 2, D: int = 2) -> nn.Module:
        return nn.Sequential(nn.Linear(8, H * D), *(nn.Linear(H * D, H * D, bias=False) for _ in range(7)))

    with pytest.warns(Slow, match=r"1.weight, 2.weight and 5 more have .* --fix H=… or --fix D=… is quick"):
        traced(make)


def test_pieces_of_an_axis_of_two_growing_dims() -> None:
    """3 · heads × size of a head, split in three as multi-head attention does it, is three matrices between such axes."""

    def make(H: int = 2, D: int = 2) -> nn.Module:
        def gated(m: Any, x: torch.Tensor) -> torch.Tensor:
            a, b, c = m.in_proj(m.a(x)).unflatten(-1, (3, H * D)).unbind(-2)
            return m.o((a.unflatten(-1, (H, D)) * b.unflatten(-1, (H, D))).flatten(-2) + c)

        sizes = {"a": (8, H * D), "in_proj": (H * D, 3 * H * D), "o": (H * D, 1)}
        return Net(gated, **{name: nn.Linear(*size, bias=False) for name, size in sizes.items()})

    weights = traced(make).program.weights
    assert {weights[f"in_proj.weight.{k}"].axes for k in range(3)} == {("H", "D", "H'", "D'")}


def test_queries_keys_and_values_inside_every_head() -> None:
    """Heads × 3 × size in one axis, the middle one taken apart: three matrices, or twice as many if halves are rotated.

    As one matrix queries and keys were one vector, and their products coherent: N^(1/2) too large.
    """

    def make(N: int = 16, *, rotated: bool = True, heads: int = 2) -> nn.Module:
        def attend(m: Any, x: torch.Tensor) -> torch.Tensor:
            q, k, v = m.qkv(x).unflatten(-1, (heads, 3, N // heads)).transpose(1, 2).unbind(-2)
            if rotated:
                angles = torch.arange(3.0)[:, None]
                q, k = (torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)
                        for a, b in (q.chunk(2, -1), k.chunk(2, -1)))  # fmt: skip
            return m.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

        return Net(attend, qkv=nn.Linear(8, 3 * N, bias=False), o=nn.Linear(N, 2, bias=False))

    weights = traced(make, 2, 3, 8).program.weights
    assert {w: weights[w].axes for w in weights if "qkv" in w} == {f"qkv.weight.{k}": ("N", "8") for k in range(6)}
    found = traced(make, 2, 3, 8, options={"rotated": False})
    assert [w for w in found.program.weights if "qkv" in w] == [f"qkv.weight.{k}" for k in range(3)]
    crossed = traced(lambda H=4: make(8 * H, heads=H), 2, 3, 8).program.weights
    assert {crossed[f"qkv.weight.{k}"].axes[0] for k in range(6)} == {"H"}


def test_the_halves_of_every_head_are_matrices_of_their_own() -> None:
    found = traced(build(rotated))
    assert {w: found.program.weights[w].axes for w in ("a.weight.0", "a.weight.1")} == {
        "a.weight.0": ("N", "8"), "a.weight.1": ("N", "8"),
    }  # fmt: skip
    sizes = {found.program.multiples.get("N")}
    assert sizes == {Fraction(1, 2)}


def test_an_orthogonal_matrix() -> None:
    """It is known as one, and drawn as one where the program is measured."""
    from scalecalc.measure.interpret import Setting, draw_leaves

    def make(N: int = 16) -> nn.Module:
        return Net(lambda m, x: m.o(m.p(m.a(x))), a=nn.Linear(8, N), p=orthogonal(N), o=nn.Linear(N, 2, bias=False))

    def orthogonal(N: int) -> nn.Linear:
        layer = nn.Linear(N, N, bias=False)
        nn.init.orthogonal_(layer.weight)
        return layer

    found = traced(make)
    assert str(found.scalings["p.weight"].init) == "N^(-1/2)"
    assert any("p.weight starts orthogonal" in remark for remark in found.program.remarks)
    leaves = draw_leaves(found.program, Setting({"N": 32}, 2, 0), found.scalings, [True] * len(found.program.ops))
    drawn = leaves[found.program.leaves("weight")["p.weight"]]
    assert torch.allclose(drawn @ drawn.mT, torch.eye(32, dtype=torch.float64).expand(2, 32, 32))


def test_weights_shared_by_two_submodules() -> None:
    def make(N: int = 8) -> tuple[nn.Module, torch.optim.Optimizer]:
        one, two = nn.Linear(N, N, bias=False), nn.Linear(N, N, bias=False)
        two.weight = one.weight
        module = nn.Sequential(nn.Linear(8, N), one, nn.Tanh(), two, nn.Linear(N, 2))
        return module, torch.optim.Adam([{"params": [one.weight], "lr": 1 / N}])

    found = traced(make)
    assert [w for w in found.program.weights if w in ("1.weight", "3.weight")] == ["1.weight"]
    assert str(found.scalings["1.weight"].lr) == "N^(-1)"


def test_an_integer_input_is_a_number() -> None:
    """A mask of padding that is given beside the data."""

    def make(N: int = 8) -> nn.Module:
        return Net(lambda m, x, mask: m.o(m.a(x) * mask.unsqueeze(-1)), a=nn.Linear(8, N), o=nn.Linear(N, 2, bias=False))

    found: Found = trace(make, lambda: (torch.randn(2, 3, 8), torch.tensor([[1, 1, 0], [1, 0, 0]])))
    assert [op.params["values"] for op in found.program.ops if "values" in op.params] == [((1.0, 1.0, 0.0), (1.0, 0.0, 0.0))]


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda m, x: m.o(m.a(x) / m.a(x)), "may be zero or negative"),
        (lambda m, x: m.o((scores(m, x) + causal(-torch.inf)).tanh() @ steps(m, x)), "do not go into a softmax"),
        (lambda m, x: m.o(m.a(x).mul(1e4).exp()), "is not finite"),
        (lambda m, x: m.o(m.a(x) * m.a(x).amax(-1, keepdim=True)), "a maximum over an axis that grows"),
        (lambda m, x: m.o(F.dropout(scores(m, x), 0.5, True) @ steps(m, x)), "dropout with p = 0.5"),
    ],
)
@pytest.mark.slow
def test_what_is_refused(forward: Callable[..., Any], words: str) -> None:
    assert words in refused(build(forward))


@pytest.mark.slow
def test_what_no_graph_can_be_made_of() -> None:
    message = refused(net(lambda m, x: m.o(m.a(x))[: int(x.abs().sum())]))
    assert "branches on its data" in message
