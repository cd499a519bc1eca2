"""How the dims grow against each other, as a user writes it.

``free``; ``N_u>N_x``, in which N_u goes to infinity first; or a path: ``proportional``, ``N_x=N_u^1/2``, and with more dims
each a power of one and the same, which may be a dim or the number that says how far along the path one is:
``L=N^1/2, batch=N^2`` and ``N=s^2, L=s, batch=s^4`` are one path.  A path has to say how every dim grows.  (Dims left out
once grew like the base, in silence.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from scalecalc.errors import InputError
from scalecalc.scale import Regime, fraction

_DIM = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def parse(text: str, dims: Iterable[str] = ()) -> Regime:
    """A regime from its text: see :meth:`scalecalc.scale.Regime.parse`."""
    clean = text.replace(" ", "")
    if clean == "free":
        return Regime()
    if clean == "proportional":
        return Regime("path", text=clean)
    known = tuple(dims)
    if "=" in clean:
        rates = _joint(clean, text, known)
        return Regime("path", rates=tuple(sorted(rates.items())), text=", ".join(clean.split(",")))
    names = tuple(clean.split(">"))
    if len(names) < 2 or len(set(names)) < len(names) or not all(map(_DIM.fullmatch, names)) or _strange(names, known):
        raise InputError(_no_regime(text, known))
    return Regime("ordered", order_of=names, text=clean)


def _joint(clean: str, text: str, known: tuple[str, ...]) -> dict[str, Fraction]:
    """``L=N^1/2,batch=L^2`` as rates: each dim as a power of the one name that is none of theirs, itself a dim or not."""
    powers: dict[str, tuple[str, Fraction]] = {}
    for equation in clean.split(","):
        left, equals, right = equation.partition("=")
        base, power, rho = right.partition("^")
        if not (equals and _DIM.fullmatch(left) and _DIM.fullmatch(base)) or left == base or left in powers:
            raise InputError(_no_regime(text, known))
        powers[left] = base, fraction(rho) if power else Fraction(1)
        if powers[left][1] <= 0:
            raise InputError(f"in the regime {text!r} the power of {base} must be positive, so that both grow.")
    roots = sorted({base for base, _ in powers.values()} - set(powers))
    if len(roots) != 1:
        raise InputError(f"in the regime {text!r} dims must be powers of one and the same, as in N=s^2, L=s, batch=s^3.")
    rates = {roots[0]: Fraction(1)}
    while left := [name for name, (base, _) in powers.items() if name not in rates and base in rates]:
        rates |= {name: rates[powers[name][0]] * powers[name][1] for name in left}
    if _strange(powers, known) or len(rates) <= len(powers):
        raise InputError(_no_regime(text, known))
    if known and roots[0] not in known:
        del rates[roots[0]]
    if rest := [d for d in known if d not in rates]:
        raise InputError(
            f"the regime {text!r} does not say how {' and '.join(rest)} grow{'s' if len(rest) == 1 else ''}: add "
            f"{', '.join(f'{d}={roots[0]}^…' for d in rest)} to it, or hold a dim at one width (--fix {rest[0]}=64)."
        )
    return rates


def _strange(names: Iterable[str], known: Iterable[str]) -> bool:
    return bool(known) and not set(names) <= set(known)


def _no_regime(text: str, known: Iterable[str]) -> str:
    hint = f" The model's dims: {', '.join(sorted(known))}." if known else ""
    return (
        f"{text!r} is no regime; write free, proportional, N_u>N_x (first to infinity first), N_x=N_u^1/2, or for more dims "
        f"N=s^2, L=s, batch=s^3.{hint}"
    )
