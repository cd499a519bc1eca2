"""A parameterization on a torch model: learning rates, weight decays and ε by parameter groups, initial weights by scaling.

    p = sc.solve("mlp", optimizer="adam")
    names = {"embed.weight": "W_in", "layers.*.weight": "W_2", "head.weight": "W_out", "*.bias": None}
    sc.torch.initialize(model, p, base=base_model, names=names)
    optimizer = torch.optim.Adam(sc.torch.param_groups(model, p, base=base_model, lr=3e-4, names=names))
    print(sc.torch.table(model, p, optimizer, base=base_model, names=names))

``base`` is the model at the width that the rate was tuned at.  Only ratios of widths count, read off the shapes of the
parameters; at base width everything is as it would be without scalecalc, to the bit.

The model is not touched but for its initial values: no hooks, no parametrizations, no attributes.  A multiplier is moved
into init and rate, where it is the same training (:mod:`scalecalc.torch.gauge`); so whatever uses a weight gets it, and
torch.compile, FSDP, state dicts, copies and pickles see an ordinary model.  Parameters are known by their names.
"""

from __future__ import annotations

from scalecalc.torch.gauge import without_multipliers
from scalecalc.torch.groups import param_groups
from scalecalc.torch.initialize import initialize
from scalecalc.torch.table import Settings, table

__all__ = ["Settings", "initialize", "param_groups", "table", "without_multipliers"]
