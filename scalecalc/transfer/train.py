"""One job: a network of some width, scaled from its base, trained at one rate from one seed.

When a run ends early:

- *diverged*: a loss that is not finite; or, after a quarter of the steps or more, a mean over the last tenth of the steps
  that is above twice the loss of the untrained network.  (Not once: that loss is one batch's, and a run at a rate too small
  to move stays as near to it as batches differ.)
- *dominated*, where it is asked for: after half of the steps or more, a mean loss that is more than so much above the one
  that a finished run of the same width, seed and parameterization had there.

A run with an error is *failed*, with the error's text.  Nothing of a job is ever raised but what the user's Ctrl-C raises.
"""

from __future__ import annotations

import math
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from scalecalc._version import __version__
from scalecalc.errors import InputError
from scalecalc.transfer.config import Setup
from scalecalc.transfer.data import read
from scalecalc.transfer.networks import Network, names_of, network
from scalecalc.transfer.records import Job

POINTS = 50  # of a curve
TENTH, PATIENCE, ABOVE = 0.1, 0.25, 2.0
EPSILON = 1e-12  # Adam's ε, below every gradient of consequence, so that widths differ by their exponents alone
VALIDATION = 16  # batches


def versions() -> dict[str, str]:
    import numpy

    return {
        "scalecalc": __version__, "torch": torch.__version__, "numpy": numpy.__version__, "python": platform.python_version(),
        "machine": platform.machine(),
    }  # fmt: skip


def run(setup: Setup, threads: int = 1) -> Job:
    """Train, whatever comes of it."""
    torch.set_num_threads(threads)
    history = History(setup.sweep.steps)
    try:
        status, why, loss = _trained(setup, history)
    except (Exception, MemoryError) as error:  # the row says what it was
        status, why, loss = "failed", _said(error), None
    return Job(
        setup.key, setup.sweep.hash, setup.scheme.name, dict(setup.dims), setup.group, setup.log2_rate, setup.seed,
        status, loss, tuple(history.curve), time.perf_counter() - history.begun, why, versions(),
    )  # fmt: skip


def _said(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".strip()
    return text if len(text) < 500 else text[:250] + " … " + text[-250:]


class History:
    """The losses so far, thinned to a curve of means over windows."""

    def __init__(self, steps: int):
        self.losses: list[float] = []
        self.curve: list[tuple[int, float]] = []
        self.tail = max(1, round(TENTH * steps))
        self._ends = {round(steps * (i + 1) / POINTS) for i in range(POINTS)}
        self._from = 0
        self.begun = time.perf_counter()

    def add(self, loss: float) -> None:
        self.losses.append(loss)
        step = len(self.losses)
        if step in self._ends or not math.isfinite(loss):
            window = self.losses[self._from :]
            # infinities are no JSON; a run that ends in one says so in its status
            if math.isfinite(mean := sum(window) / len(window)):
                self.curve.append((step, mean))
            self._from = step

    @property
    def recent(self) -> float:
        window = self.losses[-self.tail :]
        return sum(window) / len(window)


def _trained(setup: Setup, history: History) -> tuple[Any, str, float | None]:
    sweep, net = setup.sweep, network(setup.sweep.model)
    data = source(setup, net)
    model, base = built(setup, net, data)
    optimizers = optimizers_of(setup, net, model, base)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    bar = dict(setup.bar)
    history.begun = time.perf_counter()  # a worker's first job waits for imports, too
    for step, (x, y) in zip(range(sweep.steps), batches(setup, net, data), strict=False):
        loss = loss_of(net, model, x, y)
        value = loss.item()
        history.add(value)
        if not math.isfinite(value):
            return "diverged", f"the loss is {value} at step {step + 1} of {sweep.steps}", None
        if hopeless := _hopeless(history, step + 1, sweep.steps, bar):
            return *hopeless, None
        for optimizer, base in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * factor(sweep.schedule, step, sweep.steps)
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    final = validated(setup, net, model, data) if sweep.final == "valid" else history.recent
    if not math.isfinite(final):
        return "diverged", f"the final loss is {final}", None
    return "done", "", final


def _hopeless(history: History, step: int, steps: int, bar: dict[int, float]) -> tuple[str, str] | None:
    recent, start = history.recent, history.losses[0]
    if step >= PATIENCE * steps and step > history.tail and recent > ABOVE * start:
        return "diverged", f"a loss of {recent:.4g} at step {step} of {steps}, above twice the untrained {start:.4g}"
    if step >= steps / 2 and step in bar and history.curve[-1][1] > bar[step]:
        return "dominated", f"a loss of {history.curve[-1][1]:.4g} at step {step} of {steps}, above {bar[step]:.4g}"
    return None


def factor(schedule: str, step: int, steps: int) -> float:
    """What the rate is multiplied by: 1; or, behind a linear warm-up over a tenth of the steps, a cosine down to zero."""
    if schedule == "constant":
        return 1.0
    warm = max(1, round(TENTH * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def source(setup: Setup, net: Network) -> Any:
    """The data, which must be what the sweep was set up with.

    Raises:
        InputError: the files have changed, or are not there, where the job runs.
    """
    if net.batches is not None:
        return None
    data, found = _read(setup.sweep.data, net.reads)
    if found != setup.sweep.data_digest:
        raise InputError(f"the data {setup.sweep.data or 'of the model'} is another here than where the sweep was started.")
    return data


_read = cache(read)


def batches(setup: Setup, net: Network, data: Any) -> Iterator[tuple[Any, Any]]:
    made = (
        net.batches(setup.seed, setup.sweep.batch) if net.batches is not None
        else data.batches(setup.seed, setup.sweep.batch, setup.sweep.length)
    )  # fmt: skip
    for x, y in made:
        yield torch.as_tensor(x), torch.as_tensor(y)


def loss_of(net: Network, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats where targets are classes, else half the mean squared error."""
    out = model(x)
    if y.is_floating_point():
        return 0.5 * (out - y).square().mean()
    return F.cross_entropy(out.flatten(0, -2), y.flatten())


@torch.no_grad()
def validated(setup: Setup, net: Network, model: nn.Module, data: Any) -> float:
    if data is None:
        raise InputError("a loss on held-out data needs --data; leave out --final valid.")
    held = data.batches(0, setup.sweep.batch, setup.sweep.length, valid=True)
    pairs = (map(torch.as_tensor, pair) for pair in islice(held, VALIDATION))
    losses = [loss_of(net, model, x, y).item() for x, y in pairs]
    return sum(losses) / len(losses)


def built(setup: Setup, net: Network, data: Any) -> tuple[nn.Module, nn.Module]:
    """The network of the job's width, its initial weights scaled from those of the base, and the base."""
    from scalecalc.torch import initialize

    ends = (data.features, data.outputs) if data is not None else (0, 0)
    made: list[nn.Module] = []
    for dims in (setup.dims, setup.sweep.base):
        torch.manual_seed(setup.seed)
        made.append(net.build(dims, *ends))
    model, base = made
    initialize(model, setup.scheme, base=base, names=names_of(net, model, setup.scheme.axes))
    return model, base


def optimizers_of(setup: Setup, net: Network, model: nn.Module, base: nn.Module) -> list[torch.optim.Optimizer]:
    """The optimizer, or two where matrices have one of their own, at the rates of the parameterization."""
    from scalecalc.torch import param_groups
    from scalecalc.torch.names import places

    sweep, lr, names = setup.sweep, 2.0**setup.log2_rate, names_of(net, model, setup.scheme.axes)
    rates: Any = lr
    if setup.group:
        assert setup.log2_others is not None
        own = {place.name: lr for place in places(model, setup.scheme, names) if place.weight in setup.members}
        rates = {"*": 2.0**setup.log2_others, **own}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dims that grow one at a time, and not along the path solved for, do so by design
        groups = param_groups(model, setup.scheme, base=base, lr=rates, weight_decay=sweep.weight_decay, names=names)
    return OPTIMIZERS[sweep.optimizer](groups)


Groups = list[dict[str, Any]]


def _sgd(groups: Groups, **options: Any) -> list[torch.optim.Optimizer]:
    return [torch.optim.SGD(groups, **options)]


def _adam(groups: Groups) -> list[torch.optim.Optimizer]:
    return [torch.optim.Adam(groups, eps=EPSILON)]


def _adamw(groups: Groups) -> list[torch.optim.Optimizer]:
    plain = [{"weight_decay": 0.0, **group} for group in groups]  # torch's own default is 0.01
    return [torch.optim.AdamW(plain, eps=EPSILON)]


def _muon(groups: Groups, adjust: str) -> list[torch.optim.Optimizer]:
    """Matrices by Muon, what has no singular values by Adam: so the law of the registered muon has it."""
    plain = [{"weight_decay": 0.0, **group} for group in groups]
    matrices, others = ([g for g in plain if (g["params"][0].ndim == 2) == two] for two in (True, False))
    out: list[torch.optim.Optimizer] = [torch.optim.Muon(matrices, adjust_lr_fn=adjust)]
    return out + ([torch.optim.AdamW(others, eps=EPSILON)] if others else [])


OPTIMIZERS: dict[str, Callable[[Groups], list[torch.optim.Optimizer]]] = {
    "sgd": _sgd,
    "momentum": partial(_sgd, momentum=0.9),
    "nesterov": partial(_sgd, momentum=0.9, nesterov=True),
    "adam": _adam,
    "adamw": _adamw,
    "muon": partial(_muon, adjust="original"),
    "muon_rms": partial(_muon, adjust="match_rms_adamw"),
}
