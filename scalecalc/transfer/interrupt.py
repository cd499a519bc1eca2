"""Ctrl-C, and that none is lost.

Python raises KeyboardInterrupt wherever it is at that moment.  Where that is a destructor or a callback out of C, it is
printed and forgotten: of some thirty interrupted sweeps one went on to its end.  So it is noted, too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noticed() -> Iterator[Callable[[], None]]:
    """Within, Ctrl-C raises KeyboardInterrupt as ever; a call of what is given raises it, too, where it was pressed before.

    Elsewhere than in the main thread, which alone gets signals, nothing is changed.
    """
    pressed = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.default_int_handler(number, frame)

    def again() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield again
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield again
    finally:
        signal.signal(signal.SIGINT, before)


__all__ = ["noticed"]
