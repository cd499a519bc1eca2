"""Training: a task whose best rate is known exactly, what a network is set up with, losses that are not finite."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from scalecalc.errors import InputError, UnknownName
from scalecalc.parameterization import Parameterization
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling
from scalecalc.transfer.config import Setup, Sweep
from scalecalc.transfer.data import read
from scalecalc.transfer.networks import ACTIVATIONS, network
from scalecalc.transfer.plan import decoupled, grid, schemes
from scalecalc.transfer.train import OPTIMIZERS, built, optimizers_of, run, source

# f = v·x with x of ones: half the squared error has the curvature N along v, so that one step of 1/N is at the least loss, a
# rate above 2/N diverges, and the best rate falls by one octave per doubling unless the parameterization has it.
SUM = """
import torch
from torch import nn


class Sum(nn.Module):
    def __init__(self, N):
        super().__init__()
        self.v = nn.Linear(N, 1, bias=False)

    def forward(self, x):
        return self.v(x.expand(*x.shape[:-1], self.v.in_features))


def factory(N=8):
    return Sum(N)


def example_inputs(N):
    return (torch.randn(4, 1),)


def batches(seed, batch):
    while True:
        yield torch.ones(1, 1), torch.full((1, 1), 3.0)
"""
ONE = Scale.one()


def scheme(name: str, rate: Scale, init: Scale = ONE) -> Parameterization:
    return Parameterization(name, "sgd", ("N",), {"v.weight": WeightScaling(init, ONE, rate)}, {"v.weight": ("", "N")})


@pytest.fixture
def setup(tmp_path):
    file = tmp_path / "sum.py"
    file.write_text(SUM)
    sweep = Sweep(f"{file}:factory", {"N": 8}, "", "", "sgd", 8, 1, 0)
    return Setup(sweep, scheme("sp", ONE), {"N": 8}, -3.0, 0)


def best(setup: Setup, width: int, scheme: Parameterization) -> float:
    jobs = [run(replace(setup, scheme=scheme, dims={"N": width}, log2_rate=float(k))) for k in range(-9, 0)]
    for job in jobs:
        over = job.log2_rate > (1 - np.log2(width) if scheme.name == "sp" else -2)
        assert job.status == ("diverged" if over else "done")
    return min((job.loss, job.log2_rate) for job in jobs if job.loss is not None)[1]


def test_the_best_rate_is_the_known_one_and_moves_as_it_must(setup):
    for width in (8, 16, 64):
        assert best(setup, width, scheme("sp", ONE)) == -np.log2(width)
        assert best(setup, width, scheme("mup", Scale.of("N", -1))) == -3.0


def test_one_seed_is_one_run_to_the_bit(setup):
    assert replace(run(setup), seconds=0) == replace(run(setup), seconds=0)
    assert run(setup).curve != run(replace(setup, seed=1)).curve


def test_an_error_is_a_row(setup):
    job = run(replace(setup, sweep=replace(setup.sweep, model=setup.sweep.model.replace("factory", "nothing"))))
    assert (job.status, job.loss) == ("failed", None)
    assert "nothing" in job.why


def test_a_loss_that_is_not_finite_is_said(setup):
    job = run(replace(setup, log2_rate=60.0, sweep=replace(setup.sweep, steps=50)))
    assert job.status == "diverged"
    assert "the loss is inf" in job.why or "nan" in job.why or "above twice" in job.why


def test_a_run_far_above_a_finished_one_is_stopped_past_the_half(setup):
    slow = replace(setup, log2_rate=-9.0, sweep=replace(setup.sweep, steps=100))
    stopped = run(replace(slow, bar=tuple((step, 1e-3) for step in range(2, 101, 2))))
    assert run(slow).status == "done"
    assert stopped.status == "dominated"
    assert stopped.curve[-1][0] == 50
    assert replace(slow, bar=((1, 1.0),)).key == slow.key


MODELS = {"mlp": {"N": 16}, "s6:gate=yes,skip=yes": {"N_u": 16, "N_x": 4}, "transformer": {"N": 16}}


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_is_a_weight_with_the_init_and_rate_that_were_derived(model):
    net, dims = network(model), MODELS[model]
    found, (mup,) = read("", net.reads)[1], schemes(net.program, ["mup"], "adam")
    length = 8 if net.reads == "text" else 0
    sweep = Sweep(model, {dim: width // 2 for dim, width in dims.items()}, "", found, "adam", 1, 4, length)
    at = Setup(sweep, mup, dims, -5.0, 0)
    data = source(at, net)
    module, base = built(at, net, data)
    groups = optimizers_of(at, net, module, base)[0].param_groups
    rates = {name: group["lr"] / 2.0**-5 for group in groups for name in group["param_names"]}
    assert len(rates) == len(list(module.named_parameters()))
    before = dict(base.named_parameters())
    for name, parameter in module.named_parameters():
        weight = mup[name.rsplit(".", 1)[-1]]
        assert rates[name] == pytest.approx(weight.lr.at(dict.fromkeys(dims, 2.0)) if weight.lr.dims else 1.0)
        if name == "W_out":
            assert (parameter.square().mean() / before[name].square().mean()).item() == pytest.approx(0.25, rel=1e-3)
    job = run(at)
    assert (job.status, job.why) == ("done", "")


def test_a_group_is_swept_with_the_others_at_their_best(setup):
    sweep = Sweep("mlp", {"N": 8}, "teacher", "teacher", "sgd", 5, 8, 0)
    every = grid(sweep, schemes("mlp", ["sp"], "sgd"), [{"N": 8}], [-7.0, -6.0, -5.0], 2)
    ended = [run(one) for one in every]
    later = decoupled(every, ended, "out", ["W_out"])
    (group,) = {one.log2_others for one in later}
    losses = {rate: sum(j.loss for j in ended if j.log2_rate == rate) for rate in (-7.0, -6.0, -5.0)}
    assert group == min(losses, key=losses.__getitem__)
    assert {one.group for one in later} == {"out"}
    assert not {one.key for one in later} & {one.key for one in every}
    net = network("mlp")
    groups = optimizers_of(later[0], net, *built(later[0], net, source(later[0], net)))[0].param_groups
    assert {name: g["lr"] for g in groups for name in g["param_names"]} == {
        "W_in": 2.0**group, "W_2": 2.0**group, "W_out": 2.0**-7,
    }  # fmt: skip
    with pytest.raises(UnknownName, match="W_nothing"):
        decoupled(every, ended, "out", ["W_nothing"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_the_teacher(optimizer):
    sweep = Sweep("mlp", {"N": 16}, "teacher", "teacher", optimizer, 60, 32, 0)
    (sp,) = schemes("mlp", ["sp"], optimizer)
    job = run(Setup(sweep, sp, {"N": 16}, -4.0, 0))
    assert job.status == "done"
    assert job.curve[-1][1] < 0.7 * job.curve[0][1]


@pytest.mark.parametrize("model", ["mlp:readout=zero,activation=tanh", "s6:readout=zero", "transformer:readout=zero"])
def test_a_readout_of_zero_says_nothing_at_first_at_any_width(model):
    net = network(model)
    assert "readout" not in net.program
    dims = {dim: widths[0] for dim, widths in net.dims.items()}
    data, found = read("", net.reads)
    sweep = Sweep(model, dims, "", found, "adam", 1, 4, 8)
    (mup,) = schemes(net.program, ["mup"], "adam")
    for width in (dims, {dim: 2 * n for dim, n in dims.items()}):
        job = run(Setup(sweep, mup, width, -4.0, 0))
        assert (job.status, job.why) == ("done", "")
        assert job.loss == pytest.approx(np.log(data.outputs), rel=1e-6)
    assert run(Setup(replace(sweep, steps=2), mup, dims, -4.0, 0)).curve[1][1] != pytest.approx(job.loss, rel=1e-3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_that_of_the_program(name):
    from scalecalc.asymptotics import x
    from scalecalc.rule import registry

    assert f"activation={name}" in network(f"mlp:activation={name}").program
    expression = registry("rule")[name].expression
    at = [-2.0, -0.5, 0.5, 2.0]
    wanted = [float(expression.subs(x, value)) for value in at]
    assert ACTIVATIONS[name](torch.tensor(at, dtype=torch.float64)).tolist() == pytest.approx(wanted, abs=1e-12)


def test_text_is_read_where_it_lies_and_what_is_held_out_is_not_trained_on(tmp_path):
    (tmp_path / "a.txt").write_bytes(bytes(range(100)) * 10)
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.txt").write_bytes(b"z" * 500)
    data, found = read(str(tmp_path), "text")
    pairs = list(itertools.islice(data.batches(0, 64, 16), 20))
    x, y = (np.concatenate(part) for part in zip(*pairs, strict=True))
    own = x[:, 0] != ord("z")
    assert (y[own] == (x[own] + 1) % 100).all()
    assert 0.2 < (~own).mean() < 0.5  # by length: a third of the windows
    assert (np.concatenate([p[0] for p in itertools.islice(data.batches(0, 64, 16), 20)]) == x).all()
    (tmp_path / "c.txt").write_bytes(b"y" * 500)
    assert read(str(tmp_path), "text")[1] != found
    with pytest.raises(InputError, match="no file or folder"):
        read(str(tmp_path / "d"), "text")
    with pytest.raises(InputError, match="too short"):
        next(data.batches(0, 1, 5000))


def test_a_changed_config_is_another_sweep(setup):
    other = replace(setup, sweep=replace(setup.sweep, steps=9))
    assert setup.sweep.hash != other.sweep.hash
    assert setup.key != other.key
    assert setup.key != replace(setup, scheme=scheme("sp", Scale.of("N", -1))).key  # the exponents themselves count
