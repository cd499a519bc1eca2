"""Torch on one thread, where what is multiplied is small and threads that wait for each other take longer."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Generator[None]:
    """As many threads as before when it ends, however it ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
