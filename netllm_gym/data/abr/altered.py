"""Data augmentation for sets of traces: altered copies of each trace, and generated traces.

A policy can overfit to a few dozen recordings. Copies that are stretched in capacity and in time
are plausible links too, and make the training set more diverse.

A suffix to the name of a set asks for them: `clean-train~12` is `clean-train` with twelve altered
copies of each of its traces, and `clean-train~12+400` has 400 generated traces in addition. The
same name always gives the same traces.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from netllm_gym.data.abr.synthetic import FCCLike, MarkovLevels, TraceFamily, UniformHold
from netllm_gym.data.abr.traces import Trace, TraceSet
from netllm_gym.errors import InputError

MOST = 10_000
_NAME = re.compile(r"(?P<base>.+)~(?P<copies>\d{1,6})(?:\+(?P<generated>\d{1,6}))?")


@dataclass(frozen=True)
class Alteration:
    """How many traces are added to a set, and how the copies are altered.

    Attributes:
        copies: Copies of each trace, with stretched capacity and time.
        generated: Generated traces, of families with random parameters.
        capacity: Range of the factor on a copy's capacity. Its logarithm is uniform.
        time: Range of the factor on a copy's time. Its logarithm is uniform.
    """

    copies: int = 12
    generated: int = 400
    capacity: tuple[float, float] = (0.5, 2.0)
    time: tuple[float, float] = (0.5, 2.0)

    def __post_init__(self) -> None:
        for name in ("copies", "generated"):
            if not 0 <= getattr(self, name) <= MOST:
                raise InputError(f"{name} must be in 0..{MOST}, got {getattr(self, name)}")
        for name in ("capacity", "time"):
            low, high = getattr(self, name)
            if not 0 < low <= high < np.inf:
                raise InputError(f"{name} must be a range above 0, got {getattr(self, name)}")


class AlteredName(NamedTuple):
    """The parts of the name of an altered set."""

    base: str  # name of the set that is altered
    alteration: Alteration


def read_altered_name(name: str) -> AlteredName | None:
    """Return the parts of `BASE~COPIES` or `BASE~COPIES+GENERATED`, None for other names.

    Raises:
        InputError: If there are too many copies or traces, or the base is an altered set itself.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    if _NAME.fullmatch(match["base"]):  # each alteration multiplies: MOST would bound none of it
        raise InputError(f"traces must be altered once, got {name!r}")
    return AlteredName(
        match["base"], Alteration(int(match["copies"]), int(match["generated"] or 0))
    )


def altered_set(name: str, base: TraceSet, alteration: Alteration) -> TraceSet:
    """Return the altered set with that name. The name is the seed of its alterations."""
    traces = altered(base.traces, alteration, zlib.crc32(name.encode()))
    return TraceSet(name, tuple(traces), remarks=base.remarks)


def altered(traces: Sequence[Trace], alteration: Alteration, seed: int) -> list[Trace]:
    """Return the traces, their altered copies, which keep the recording, and generated traces."""
    found = list(traces)
    for number, trace in enumerate(traces):
        rng = np.random.default_rng([seed, 0, number])
        factors = [
            np.exp(rng.uniform(np.log(low), np.log(high), alteration.copies))
            for low, high in (alteration.capacity, alteration.time)
        ]
        found += [
            Trace(
                f"{trace.name}~{copy}",
                trace.time_s * time,
                trace.capacity_mbps * capacity,
                trace.recording,
                altered=True,
            )
            for copy, (capacity, time) in enumerate(zip(*factors, strict=True), start=1)
        ]
    for number in range(alteration.generated):
        rng = np.random.default_rng([seed, 1, number])
        raw = _drawn_family(rng, number).generate(rng)
        found.append(Trace(f"generated-{number:03d}", *raw, altered=True))
    return found


def _drawn_family(rng: np.random.Generator, number: int) -> TraceFamily:
    """Return one of the three generated families, in turn, with random parameters.

    The capacities range from a third of the lowest bitrate of Pensieve's ladder to twice the
    highest.
    """
    top_mbps = float(np.exp(rng.uniform(np.log(1.0), np.log(9.0))))
    bottom_mbps = top_mbps * float(rng.uniform(0.02, 0.5))
    if number % 3 == 0:
        median_mbps = float(np.exp(rng.uniform(np.log(0.5), np.log(3.0))))
        return FCCLike(median_mbps, spread=0.4, min_mbps=0.1, max_mbps=6.0)
    if number % 3 == 1:
        return UniformHold(max(bottom_mbps, 0.1), top_mbps, max_hold=int(rng.integers(1, 25)))
    return MarkovLevels(
        min_mbps=max(bottom_mbps, 0.1),
        max_mbps=top_mbps,
        num_levels=int(rng.integers(4, 13)),
        dwell_s=float(rng.uniform(3.0, 40.0)),
        noise_fraction=float(rng.uniform(0.0, 0.3)),
    )
