"""Numbers drawn by key and counter, so that an episode does not depend on its neighbours.

A generator that is advanced step by step ties every draw to the draws before it, hence to the
row order and the number of processes. Here the n-th draw of an episode is a pure function of the
episode's key and n. The simulator compiles these same functions with numba.

Source: the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
Generators, OOPSLA 2014), whose k-th output is `mix64(seed + k * GAMMA)`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import FloatArray, IntArray

GAMMA = np.uint64(0x9E3779B97F4A7C15)
_SHIFT_30, _SHIFT_27, _SHIFT_31 = np.uint64(30), np.uint64(27), np.uint64(31)
_FACTOR_1, _FACTOR_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFT_11, _UNIT = np.uint64(11), 2.0**-53
# The environment draws from the same episode seed with counters 0 to chunks + 2; a policy that
# drew there too would act on the very numbers that choose its trace.
_POLICY_DRAWS = 1 << 32


def mix64(x: Any) -> Any:
    """Scramble `x`, a uint64 or an array of them; equal inputs give equal outputs."""
    x = (x ^ (x >> _SHIFT_30)) * _FACTOR_1
    x = (x ^ (x >> _SHIFT_27)) * _FACTOR_2
    return x ^ (x >> _SHIFT_31)


def to_unit(bits: Any) -> Any:
    """Map uint64 to float64 in [0, 1), on the grid of 2^-53."""
    return (bits >> _SHIFT_11) * _UNIT


def keys_of_seeds(seeds: Any) -> NDArray[np.uint64]:
    """Return one key per seed; seeds that differ by one give unrelated keys."""
    with np.errstate(over="ignore"):  # wrapping is the point, and numpy warns of it for scalars
        return np.asarray(
            mix64((np.asarray(seeds, np.int64).astype(np.uint64) + np.uint64(1)) * GAMMA), np.uint64
        )


def uniform(keys: NDArray[np.uint64], counter: Any) -> FloatArray:
    """Draw number `counter` of each key, uniform in [0, 1); (N,) keys give (N,) floats."""
    counter = np.asarray(counter, np.int64).astype(np.uint64)
    with np.errstate(over="ignore"):
        return np.asarray(to_unit(mix64(keys + (counter + np.uint64(1)) * GAMMA)), np.float64)


class EpisodeDraws:
    """A policy's own numbers: draw n of an episode is the same whatever the other rows do."""

    def __init__(self, num_rows: int) -> None:
        self._keys = np.zeros(num_rows, np.uint64)
        self._drawn = np.zeros(num_rows, np.int64)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Start the (K,) rows anew from the seeds of their episodes."""
        self._keys[rows] = keys_of_seeds(seeds)
        self._drawn[rows] = 0

    def draw(self) -> FloatArray:
        """Return each row's next number, (N,) in [0, 1)."""
        numbers = uniform(self._keys, _POLICY_DRAWS + self._drawn)
        self._drawn += 1
        return numbers
