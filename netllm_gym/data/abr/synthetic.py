"""Generated traces and a generated video, so that everything runs without a download.

Three families of traces, each a frozen configuration with `generate(rng) -> (time_s, mbps)`:

- `UniformHold`: a level uniform in a range, held for a random number of samples (the parameters
  of NetLLM's and GENET's generator).
- `MarkovLevels`: levels of a geometric ladder with a mean dwell time and noise (Pensieve's).
- `FCCLike`: slow and fast links with their own burstiness, fitted to the statistics of the FCC
  traces in `fcc-train`, `fcc-valid` and `fcc-test` (time-weighted mean 1.37 +- 0.78 Mbit/s; 5, 50
  and 95 % of all samples 0.46, 1.00 and 3.66 Mbit/s). It is the default.

A set's name fixes its seed: `synthetic` (to train on), `synthetic-valid` and `synthetic-test` are
different draws of `FCCLike`; `synthetic-uniform` and `synthetic-markov` likewise.
"""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.configs import check

NUM_TRACES = 100  # of a generated set


class RawTrace(NamedTuple):
    """Columns of a trace before it has a name."""

    time_s: FloatArray  # (rows,)
    capacity_mbps: FloatArray  # (rows,)


def _check_range(low: float, high: float, floor: float) -> None:
    rule = f"be a range above {floor} with low <= high"
    check(floor <= low <= high < np.inf, "min_mbps, max_mbps", rule, (low, high))


@dataclass(frozen=True)
class UniformHold:
    """A level uniform in [min_mbps, max_mbps], held for 1..max_hold samples of 0.1 to 3.5 s."""

    min_mbps: float = 0.2
    max_mbps: float = 4.3
    max_hold: int = 10
    duration_s: float = 320.0

    def __post_init__(self) -> None:
        _check_range(self.min_mbps, self.max_mbps, 0.0)
        holds = self.max_hold >= 1 and self.max_mbps > 0 and self.duration_s > 0
        check(holds, "max_hold, max_mbps and duration_s", "be above 0", self)

    def generate(self, rng: np.random.Generator) -> RawTrace:
        """Draw one trace."""
        most = int(self.duration_s / 0.1) + 2
        gaps_s = np.round(rng.uniform(0.1, 3.5, most), 2)
        rows = int(np.searchsorted(np.cumsum(gaps_s), self.duration_s)) + 1
        holds = rng.integers(1, self.max_hold + 1, rows + 1)
        levels = np.round(rng.uniform(self.min_mbps, self.max_mbps, rows + 1), 2)
        time_s = np.concatenate([[0.0], np.round(np.cumsum(gaps_s[:rows]), 2)])
        return RawTrace(time_s, np.maximum(np.repeat(levels, holds)[: rows + 1], 0.01))


@dataclass(frozen=True)
class MarkovLevels:
    """A walk over a geometric ladder of levels, one step a second, with Gaussian noise.

    Attributes:
        min_mbps: Lowest level.
        max_mbps: Highest level.
        num_levels: Levels of the ladder.
        dwell_s: Mean time before the level moves to a neighbour.
        noise_fraction: Standard deviation of the noise, as a share of the level.
        duration_s: Length of a trace.
    """

    min_mbps: float = 0.2
    max_mbps: float = 4.3
    num_levels: int = 10
    dwell_s: float = 20.0
    noise_fraction: float = 0.1
    duration_s: float = 320.0

    def __post_init__(self) -> None:
        _check_range(self.min_mbps, self.max_mbps, 1e-3)
        holds = self.num_levels >= 2 and self.dwell_s >= 1 and self.noise_fraction >= 0
        rule = "be above 1, dwell_s at least 1, noise_fraction at least 0"
        check(holds, "num_levels", rule, self)

    def generate(self, rng: np.random.Generator) -> RawTrace:
        """Draw one trace."""
        seconds = max(int(self.duration_s), 1)
        levels_mbps = np.geomspace(self.min_mbps, self.max_mbps, self.num_levels)
        moves = rng.random(seconds + 1) < 1.0 / self.dwell_s
        steps = np.where(rng.random(seconds + 1) < 0.5, -1, 1)
        level = int(rng.integers(self.num_levels))
        path = np.empty(seconds + 1, np.int64)
        for second in range(seconds + 1):
            if moves[second]:
                level += int(steps[second])
                level = 1 if level < 0 else min(level, 2 * self.num_levels - 2 - level)
            path[second] = level
        noise = 1.0 + self.noise_fraction * rng.standard_normal(seconds + 1)
        return RawTrace(np.arange(seconds + 1.0), np.maximum(levels_mbps[path] * noise, 0.05))


@dataclass(frozen=True)
class FCCLike:
    """Links like those of the FCC measurements: a mean, a burstiness and a memory of their own.

    The logarithm of the capacity is a first-order autoregressive walk on a grid of 5 s, scaled so
    that the trace has its mean.

    Attributes:
        median_mbps: Median over traces of the mean capacity.
        spread: Standard deviation over traces of the logarithm of the mean.
        min_mbps: Smallest capacity; the smallest mean is 1.15 times this.
        max_mbps: Largest mean; the capacity stays below 1.2 times this.
        duration_s: Length of a trace.
    """

    median_mbps: float = 1.1
    spread: float = 0.7
    min_mbps: float = 0.42
    max_mbps: float = 3.4
    duration_s: float = 320.0

    def __post_init__(self) -> None:
        _check_range(self.min_mbps, self.max_mbps, 1e-3)
        holds = self.median_mbps > 0 and self.spread >= 0 and self.duration_s >= 5
        check(holds, "median_mbps", "be above 0, spread at least 0, duration_s at least 5", self)

    def generate(self, rng: np.random.Generator) -> RawTrace:
        """Draw one trace."""
        rows = int(self.duration_s // 5) + 1
        mean_mbps = self.median_mbps * np.exp(self.spread * rng.standard_normal())
        mean_mbps = np.clip(mean_mbps, 1.15 * self.min_mbps, self.max_mbps)
        burstiness = np.clip(0.35 * np.exp(0.9 * rng.standard_normal()), 0.03, 0.9)
        memory = rng.uniform(0.05, 0.95)
        shocks = rng.standard_normal(rows) * np.sqrt(1.0 - memory**2)
        walk = np.empty(rows)
        walk[0] = rng.standard_normal()
        for row in range(1, rows):
            walk[row] = memory * walk[row - 1] + shocks[row]
        capacity_mbps = np.exp(burstiness * walk)
        capacity_mbps *= mean_mbps / capacity_mbps.mean()
        capacity_mbps = np.clip(capacity_mbps, self.min_mbps, 1.2 * self.max_mbps)
        return RawTrace(
            np.arange(rows, dtype=np.float64) * 5.0,
            np.asarray(np.round(capacity_mbps, 6), np.float64),
        )


TraceFamily = UniformHold | MarkovLevels | FCCLike
FAMILIES: dict[str, TraceFamily] = {
    "synthetic": FCCLike(),
    "synthetic-uniform": UniformHold(),
    "synthetic-markov": MarkovLevels(),
}


def set_names() -> list[str]:
    """Return the names of all generated trace sets."""
    return [name + part for name in FAMILIES for part in ("", "-valid", "-test")]


def generate_set(name: str) -> list[RawTrace]:
    """Generate a set by its name; with one numpy the same name always gives the same traces."""
    family = FAMILIES[name.removesuffix("-valid").removesuffix("-test")]
    return generate_traces(family, NUM_TRACES, seed=zlib.crc32(name.encode()))


def generate_traces(family: TraceFamily, count: int, seed: int) -> list[RawTrace]:
    """Generate `count` traces of a family; trace n does not depend on `count`."""
    check(count >= 1, "count", "be at least 1", count)
    check(seed >= 0, "seed", "be at least 0", seed)
    return [family.generate(np.random.default_rng([seed, number])) for number in range(count)]


def generate_chunk_sizes(
    ladder_mbps: FloatArray, num_chunks: int, chunk_s: float, seed: int
) -> IntArray:
    """Generate chunk sizes of a variable-bitrate video, in bytes.

    Scenes last 3 to 9 chunks; their complexity scales all rungs alike, as it does in encodings of
    one source, with a small difference between rungs. Sizes rise with the rung.

    Args:
        ladder_mbps: (rungs,) nominal bitrates.
        num_chunks: Rows to generate.
        chunk_s: Playback length of a chunk.
        seed: Of the complexity.

    Returns:
        (num_chunks, rungs) bytes.
    """
    rng = np.random.default_rng(seed)
    scene = np.repeat(rng.normal(0.0, 0.18, num_chunks), rng.integers(3, 10, num_chunks))
    complexity = np.exp(scene[:num_chunks] + rng.normal(0.0, 0.06, num_chunks))
    complexity /= complexity.mean()
    between_rungs = np.exp(rng.normal(0.0, 0.02, (num_chunks, len(ladder_mbps))))
    size_bytes = ladder_mbps * 1e6 / 8 * chunk_s * complexity[:, None] * between_rungs
    return np.asarray(np.maximum.accumulate(np.rint(size_bytes), axis=1), np.int64)
