"""What a pattern says, in words: the one place of the reports that looks inside one.

>>> from scalecalc.profile import Profile
>>> from scalecalc.term import atom, pattern, source, EVEN
>>> print(pattern_words(pattern([("N_x", Profile(1))], [atom("W_C", ["N_x", source("N_u•", [EVEN])])])))
odd in W_C[N_x,·]; entries go like n^(-1) along N_x
>>> print(pattern_words(EVEN))
even
"""

from __future__ import annotations

from scalecalc.profile import FLAT, dim_of
from scalecalc.term import Pattern


def odd_in(one: Pattern) -> dict[str, str]:
    """The random matrices that a term is odd in, as ``W_C[N_x,·]`` → ``W_C``: a dot is an axis that has been summed."""
    return {repr(a): a.tensor for a in sorted(one.odd, key=repr)}


def profile_words(one: Pattern) -> str:
    """How the entries vary along the index; empty where all are alike."""
    words: list[str] = []
    for label, profile in one.profiles:
        if profile != FLAT:
            said = "fall exponentially" if profile.decaying else f"go like {profile.words()}"
            words.append(f"{said} along {dim_of(label)}")
    return "entries " + " and ".join(words) if words else ""


def pattern_words(one: Pattern) -> str:
    """Symmetry and profile of a term."""
    odd = ", ".join(odd_in(one))
    return "; ".join(filter(None, (f"odd in {odd}" if odd else "even", profile_words(one))))


def back_reaction(factors: list[Pattern], product: Pattern) -> list[str]:
    """The matrices that meet themselves in a product and lose their sign there, each in words."""
    sides = [odd_in(p) for p in factors]
    left = list(odd_in(product).values())
    words: list[str] = []
    for tensor in dict.fromkeys(t for side in sides for t in side.values()):
        atoms = [name for side in sides for name, t in side.items() if t == tensor]
        if len(atoms) < 2 or left.count(tensor) > len(atoms) - 2:
            continue
        if len(set(atoms)) == 1:
            words.append(f"{atoms[0]} twice: even in it")
        else:
            met = " meets ".join(dict.fromkeys(atoms))
            words.append(f"{met}: its signs cancel, and what it was multiplied with comes back")
    return words
