"""Do features move as much at every width?  A solved parameterization on plain torch networks, against the standard one.

    python tests/benchmarks/flatness.py                          # both networks, sgd and adam, widths 64 … 2048
    python tests/benchmarks/flatness.py mlp --widths 64:512 --seeds 8 --steps 10

The networks are those of ``tests/nets.py``; s6 has an eighth as many states as channels.  What is measured:
``tests/movement.py``.

Printed, for every feature: the slope of log RMS(feature after k steps − before) in log width, its standard error over seeds,
and the exponent that is derived: that of the largest contribution to the feature's update, along the path on which all dims
grow alike, without logarithms.  What to look for:

- mlp: solved, every slope is 0 at every step; standard, most are not.
- s6: solved, Delta, y and f are flat; u, B, C and h move less and less, as far as inits that are as large as can be allow
  (``scalecalc solve s6``).  With sgd, y is flat from about the fifth step on only: what W_B and W_out do together, derived
  to be flat, takes over from what each does alone, derived to fall.  Standard diverges, or y and f grow.
- s6_all, adam alone: u, B and C are required to move by order one, at the price of smaller inits; all features do, the root
  mean square of h as the N_x^(-1/2) that it is.  (With sgd that is a contradiction.)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from movement import MODELS, OPTIMIZERS, RATES, derived, slopes

from scalecalc.request import parse_dims


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--widths", default="64:2048")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    widths = parse_dims([f"N={given.widths}"])["N"]
    for which in given.networks:
        for optimizer in (o for o in OPTIMIZERS if (which, o) in RATES):
            expected = derived(which, optimizer)
            for standard in (False, True):
                found = slopes(which, optimizer, widths, seeds=given.seeds, steps=given.steps, standard=standard)
                print(f"\n{which}, {optimizer}, {'standard' if standard else 'solved'}, widths {min(widths)} … {max(widths)}")
                for feature, every in found.items():
                    shown = [k for k in (1, 2, 5, 10, 20, 50) if k <= given.steps]
                    cells = [f"step {k} {every[k - 1].mean:+.2f} ±{every[k - 1].error:.2f}" for k in shown]
                    claim = "" if standard else f"derived {expected[feature]}"
                    print(f"  {feature:6} {'   '.join(cells)}   {claim}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
