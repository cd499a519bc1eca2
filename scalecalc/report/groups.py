"""A parameterization as torch parameter groups: a few lines of Python to paste, which need nothing but torch."""

from __future__ import annotations

from scalecalc.scale import Scale
from scalecalc.table import Table

OPTIMIZERS = {
    "sgd": "SGD", "momentum": "SGD", "nesterov": "SGD", "adam": "Adam", "adam_eps": "Adam", "adamw": "AdamW",
    "adafactor": "Adafactor", "muon": "Muon",
}  # fmt: skip
QUANTITIES = {"lr": "lr", "weight_decay": "weight_decay", "epsilon": "eps"}


def to_torch(table: Table) -> str:
    """The groups, each with its rate (weight decay, ε) as the number at base times a power of the ratio of widths.

    >>> from scalecalc.table import WeightScaling
    >>> one = WeightScaling(Scale.of("N", "-1/2"), Scale.one(), Scale.of("N", -1))
    >>> table = Table("mlp", (), ("N",), parameterization={"W_2": one}, parameterization_name="mup", optimizer="adam")
    >>> print(to_torch(table))
    # mup for adam, model mlp: what was tuned at base, carried to a wider model.
    import math
    <BLANKLINE>
    import torch
    <BLANKLINE>
    base = {"N": 256}  # the widths that were tuned
    widths = {"N": 4096}  # those of this model
    lr = 1e-3  # as tuned at base
    <BLANKLINE>
    def ratio(dim, power=1.0, log=0.0):
        "By how much a power of a width, and of its logarithm, grows from base."
        return (widths[dim] / base[dim]) ** power * (math.log(widths[dim]) / math.log(base[dim])) ** log
    <BLANKLINE>
    weights = dict(model.named_parameters())
    groups = [
        {"params": [weights["W_2"]], "lr": lr * ratio("N", -1)},
    ]
    optimizer = torch.optim.Adam(groups)
    <BLANKLINE>
    # Initial standard deviations, and factors on what a weight gives, times what they are at base:
    init = {
        "W_2": ratio("N", -1/2),
    }
    multiplier = {
        "W_2": 1.0,
    }
    """
    given = {q for s in table.parameterization.values() for q in s.given()}
    name = _comment(f"{table.parameterization_name} for {table.optimizer}, model {table.model}")
    usual = {"lr": "lr = 1e-3", "weight_decay": "weight_decay = 0.1", "epsilon": "eps = 1e-8"}
    out = [f"# {name}: what was tuned at base, carried to a wider model.", "import math", "", "import torch", ""]
    out.append(f"base = {_widths(table.dims, 256)}  # the widths that were tuned")
    out.append(f"widths = {_widths(table.dims, 4096)}  # those of this model")
    out += [f"{line}  # as tuned at base" for q, line in usual.items() if q in given or q == "lr"]
    out += [
        "",
        "def ratio(dim, power=1.0, log=0.0):",
        '    "By how much a power of a width, and of its logarithm, grows from base."',
        "    return (widths[dim] / base[dim]) ** power * (math.log(widths[dim]) / math.log(base[dim])) ** log",
        "",
        "weights = dict(model.named_parameters())",
        "groups = [",
    ]
    for weight, scaling in table.parameterization.items():
        parts = [f'"params": [weights[{_string(weight)}]]']
        for quantity, key in QUANTITIES.items():
            if quantity in scaling.given():
                parts.append(f'"{key}": {_times(key, scaling.given()[quantity])}')
        out.append(f"    {{{', '.join(parts)}}},")
    method = OPTIMIZERS.get(table.optimizer.partition(":")[0])
    given_to = f"optimizer = torch.optim.{method}(groups)" if method else f"# give the groups to {_comment(table.optimizer)}"
    out += ["]", given_to, ""]
    out.append("# Initial standard deviations, and factors on what a weight gives, times what they are at base:")
    for title in ("init", "multiplier"):
        out.append(f"{title} = {{")
        for weight, scaling in table.parameterization.items():
            out.append(f"    {_string(weight)}: {_times('', getattr(scaling, title))},")
        out.append("}")
    return "\n".join(out)


def _widths(dims: tuple[str, ...], width: int) -> str:
    return "{" + ", ".join(f"{_string(dim)}: {width}" for dim in dims) + "}"


def _times(base: str, scale: Scale) -> str:
    factors = [base] if base else []
    for dim in sorted(scale.dims):
        power, log = scale.power(dim), scale.log_power(dim)
        more = f", {power}, {log}" if log else f", {power}" if power != 1 else ""
        factors.append(f"ratio({_string(dim)}{more})")
    return " * ".join(factors) or "1.0"


def _string(words: str) -> str:
    """A Python string, in double quotes; whatever is in it stays in it."""
    import json

    return json.dumps(words)


def _comment(words: str) -> str:
    return " ".join(words.split())
