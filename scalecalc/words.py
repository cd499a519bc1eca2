"""What a pattern says, in words: the one place outside the calculus that looks inside one.

>>> from scalecalc.profile import Profile
>>> from scalecalc.term import atom, pattern, source, EVEN
>>> print(pattern_words(pattern([("N_x", Profile(1))], [atom("W_C", ["N_x", source("N_u•", [EVEN])])])))
odd in W_C[N_x,·]; entries go like n^(-1) along N_x
>>> print(pattern_words(EVEN))
even
"""

from __future__ import annotations

import re

from scalecalc.profile import dim_of
from scalecalc.term import Pattern

_TENSOR = re.compile(r"([^\[\]() ](?:[^\[\]()]*[^\[\]() ])?)\[")  # what stands before the slots: W_C[N_x,·], input 3[N]


def odd_in(one: Pattern) -> list[str]:
    """The random matrices that a term is odd in, as ``W_C[N_x,·]``: a dot is an axis that has been summed."""
    return sorted(map(repr, one.odd))


def profile_words(one: Pattern) -> str:
    """How the entries vary along the index, and which indices are one; empty where all entries are alike."""
    words: list[str] = []
    for part in sorted(repr(one).strip("<>").split("; ")[1:]):  # the repr has sets in it, in no order of their own
        label, colon, profile = part.partition(": ")
        if not colon:
            share = part.removeprefix("on ").removesuffix(" of the entries")
            words.append(f"live where {part}" if share == part else f"vanish outside a share Θ({share}) of them")
        elif profile.startswith("falls"):
            words.append(f"fall{profile.removeprefix('falls')} along {dim_of(label)}")
        else:
            words.append(f"go like {profile} along {dim_of(label)}")
    return "entries " + " and ".join(dict.fromkeys(words)) if words else ""


def pattern_words(one: Pattern) -> str:
    """Symmetry and profile of a term."""
    odd = ", ".join(odd_in(one))
    return "; ".join(filter(None, (f"odd in {odd}" if odd else "even", profile_words(one))))


def back_reaction(factors: list[Pattern], product: Pattern) -> list[str]:
    """The matrices that meet themselves in a product and lose their sign there, each in words."""
    before = [(name, tensor) for one in factors for name in odd_in(one) for tensor in _TENSOR.findall(name)]
    left = [tensor for name in odd_in(product) for tensor in _TENSOR.findall(name)]
    words: list[str] = []
    for tensor in dict.fromkeys(tensor for _, tensor in before):
        met = [name for name, other in before if other == tensor]
        if len(met) < 2 or left.count(tensor) > len(met) - 2:
            continue
        if len(set(met)) == 1:
            words.append(f"{met[0]} twice: even in it")
        else:
            both = " meets ".join(dict.fromkeys(met))
            words.append(f"{both}: its signs cancel, and what it was multiplied with comes back")
    return words
