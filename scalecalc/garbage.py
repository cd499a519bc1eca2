"""The cyclic garbage collector waits while something is derived.

All that a derivation makes is immutable, so nothing of it can lie on a cycle, and reference counts free what nothing needs
any more.  The collector would walk millions of living objects again and again to find nothing: a third of the time.  What
was made meanwhile is old at the end, so that it is not walked then, either.

Importing torch and taking a module down makes as many objects that stay; so a command that measures nothing collects seldom
(:func:`seldom`), a ninth of its time.  (Not one that measures: what ran a program lay on a cycle with its tensors, and
gigabytes of these waited.)
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Generator
from contextlib import contextmanager

SELDOM = (100_000, 20, 10)  # objects between collections of the youngest, and collections of each generation per next


@contextmanager
def uncollected() -> Generator[None]:
    """No cyclic collection within; as it was before, after.  Works as a decorator, too, and nests.

    >>> with uncollected():
    ...     gc.isenabled()
    False
    >>> gc.isenabled()
    True
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # else they are somebody else's to thaw
            gc.freeze()
            gc.unfreeze()  # into the oldest generation
        gc.enable()


@contextmanager
def seldom() -> Generator[None]:
    """Cyclic collections a hundred times as rare within, and none of what lives when Python ends.

    The last collection alone walked all that a derivation had made: 3 of 12 seconds, after the answer was printed.

    >>> with seldom():
    ...     gc.get_threshold() == SELDOM
    True
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
