# scalecalc report s6 --measured table.json, scalecalc 0.1.0, seed 0, measured 2026-11-28 by scalecalc report s6 --measure --budget 420.0
# mup_ssm for sgd, model s6: what was tuned at base, carried to a wider model.
import math

import torch

base = {"N_u": 256, "N_x": 256}  # the widths that were tuned
widths = {"N_u": 4096, "N_x": 4096}  # those of this model
lr = 1e-3  # as tuned at base

def ratio(dim, power=1.0, log=0.0):
    "By how much a power of a width, and of its logarithm, grows from base."
    return (widths[dim] / base[dim]) ** power * (math.log(widths[dim]) / math.log(base[dim])) ** log

weights = dict(model.named_parameters())
groups = [
    {"params": [weights["W_in"]], "lr": lr * ratio("N_u")},
    {"params": [weights["W_Delta"]], "lr": lr},
    {"params": [weights["W_B"]], "lr": lr * ratio("N_u", -1/2) * ratio("N_x")},
    {"params": [weights["W_C"]], "lr": lr * ratio("N_u", -1/2) * ratio("N_x", -1)},
    {"params": [weights["W_out"]], "lr": lr * ratio("N_u", -1)},
]
optimizer = torch.optim.SGD(groups)

# Initial standard deviations, and factors on what a weight gives, times what they are at base:
init = {
    "W_in": 1.0,
    "W_Delta": ratio("N_u", -1/2),
    "W_B": ratio("N_u", -1/2) * ratio("N_x", 1/2),
    "W_C": ratio("N_u", -1/2) * ratio("N_x", -1/2),
    "W_out": ratio("N_u", -1),
}
multiplier = {
    "W_in": 1.0,
    "W_Delta": 1.0,
    "W_B": 1.0,
    "W_C": 1.0,
    "W_out": 1.0,
}
