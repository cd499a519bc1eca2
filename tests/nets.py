"""Two plain torch networks, as a user would write them, and what one must say of each: which parameter is which weight.

They are what ``scalecalc.torch`` is tried on.  Both return their features by name, so that updates can be watched.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

MLP_NAMES = {"embed.weight": "W_in", "hidden.0.weight": "W_2", "hidden.1.weight": "W_3", "head.weight": "W_out"}
S6_NAMES = {
    "embed.weight": "W_in", "step.weight": "W_Delta", "select_B.weight": "W_B", "select_C.weight": "W_C",
    "head.weight": "W_out", "A_log": None,
}  # fmt: skip


class Perceptron(nn.Module):
    """Four layers of one width: ``mlp:depth=3``, with torch's own initial weights."""

    def __init__(self, width: int, inputs: int = 16, outputs: int = 4):
        super().__init__()
        self.embed = nn.Linear(inputs, width, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2))
        self.head = nn.Linear(width, outputs, bias=False)

    def features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        out = {"h1": self.embed(x)}
        for i, layer in enumerate(self.hidden):
            out[f"h{i + 2}"] = layer(out[f"h{i + 1}"].relu())
        return {**out, "f": self.head(out["h3"].relu())}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)["f"]


class Selective(nn.Module):
    """A selective state space layer between embedding and readout, ``s6``; initial entries of size fan-in^(−1/2)."""

    def __init__(self, channels: int, states: int, inputs: int = 16, outputs: int = 4):
        super().__init__()
        self.embed = nn.Linear(inputs, channels, bias=False)
        self.step = nn.Linear(channels, channels, bias=False)
        self.select_B = nn.Linear(channels, states, bias=False)
        self.select_C = nn.Linear(channels, states, bias=False)
        self.head = nn.Linear(channels, outputs, bias=False)
        for layer in (self.embed, self.step, self.select_B, self.select_C, self.head):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log(), requires_grad=False)

    def features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        u = self.embed(x).tanh()
        delta = functional.softplus(self.step(u) + 1)
        B, C = self.select_B(u), self.select_C(u)
        A = -self.A_log.exp()
        decay = (delta[..., None] * A).exp()  # batch, time, channels, states
        into = (decay - 1) / A * B[..., None, :] * u[..., None]
        h = torch.zeros_like(into[:, 0])
        states: list[torch.Tensor] = []
        for t in range(x.shape[1]):
            h = decay[:, t] * h + into[:, t]
            states.append(h)
        y = torch.stack([(h * C[:, t, None]).sum(-1) for t, h in enumerate(states)], dim=1)
        return {"u": u, "Delta": delta, "B": B, "C": C, "h": torch.stack(states, 1), "y": y, "f": self.head(y)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)["f"]
