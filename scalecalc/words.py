"""What a pattern says, in words: the one place outside the calculus that looks inside one.

>>> from scalecalc.profile import Profile
>>> from scalecalc.term import atom, pattern, source, EVEN
>>> print(pattern_words(pattern([("N_x", Profile(1))], [atom("W_C", ["N_x", source("N_u•", [EVEN])])])))
odd in W_C[N_x,·]; entries go like n^(-1) along N_x
>>> print(pattern_words(EVEN))
even
"""

from __future__ import annotations

from scalecalc.profile import dim_of
from scalecalc.term import Pattern

NO_POWER = "which is no power"  # of an assumption: one of two sizes that do not bound each other stands for the smaller


def odd_in(one: Pattern) -> list[str]:
    """The random matrices that a term is odd in, as ``W_C[N_x,·]``: a dot is an axis that has been summed."""
    return sorted(map(repr, one.odd))


def profile_words(one: Pattern) -> str:
    """How the entries vary along the index, and which indices are one; empty where all entries are alike."""
    found: list[tuple[str, str]] = []  # in the order of what is said, since a pattern has sets in it
    for label, p in one.profiles:
        said = p.words()
        verb = said if p.decaying else f"go like {said}"
        found.append((f"{label}: {said}", f"{verb.replace('falls', 'fall', 1)} along {dim_of(label)}"))
    for together in one.same:
        alike = "=".join(sorted(together))
        found.append((alike, f"live where {alike}"))
    for mask in one.masks:
        found.append((f"on {mask.density}", f"vanish outside a share Θ({mask.density}) of them"))
    return "entries " + " and ".join(dict.fromkeys(words for _, words in sorted(found))) if found else ""


def pattern_words(one: Pattern) -> str:
    """Symmetry and profile of a term."""
    odd = ", ".join(odd_in(one))
    return "; ".join(filter(None, (f"odd in {odd}" if odd else "even", profile_words(one))))


def back_reaction(factors: list[Pattern], product: Pattern) -> list[str]:
    """The matrices that meet themselves in a product and lose their sign there, each in words."""
    before = [(repr(a), tensor) for one in factors for a in sorted(one.odd, key=repr) for tensor in a.tensors]
    left = [tensor for a in product.odd for tensor in a.tensors]
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
