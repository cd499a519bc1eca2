"""Data of a known linear system, for a run without a file: a teacher's answer to white or coloured noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scalecalc.dynamics.spectra import Sequences
from scalecalc.errors import InputError

Array = NDArray[np.float64]
DEFAULT_POLE = 0.8


def teacher(
    samples: int = 4096,
    *,
    pole: float = DEFAULT_POLE,
    gain: float = 1.0,
    color: float = 0.0,
    noise: float = 0.0,
    count: int = 1,
    seed: int = 0,
) -> Sequences:
    """x_t = pole·x_(t−1) + u_t, y_t = gain·x_t + noise, from a zero state.

    Args:
        samples: per sequence.
        color: u_t = color·u_(t−1) + white noise, scaled to unit variance; 0 is white.
        noise: standard deviation of what is added to the outputs.
        count: of sequences.

    Raises:
        InputError: a pole outside the unit circle, or a negative noise.
    """
    from scipy.signal import lfilter

    if not abs(pole) < 1 or not abs(color) < 1 or noise < 0:
        raise InputError(
            f"pole {pole} and color {color} must lie within (−1, 1), and the noise {noise} must not be negative."
        )
    random = np.random.default_rng(seed)
    white = random.standard_normal((count, samples + 200))
    u = np.asarray(lfilter([np.sqrt(1 - color**2)], [1, -color], white, axis=1))[:, 200:]  # the filter has settled
    y = gain * np.asarray(lfilter([1.0], [1, -pole], u, axis=1)) + noise * random.standard_normal(u.shape)
    return Sequences(u[:, :, None], y[:, :, None], "a teacher")


def impulse(samples: int, pole: float = DEFAULT_POLE, gain: float = 1.0) -> Sequences:
    """The teacher's answer to one impulse of mean square 1: white, and circular but for pole^samples."""
    u = np.zeros(samples)
    u[0] = np.sqrt(samples)
    return Sequences(u[None, :, None], (gain * u[0] * pole ** np.arange(samples))[None, :, None], "an impulse")
