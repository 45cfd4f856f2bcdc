"""Quality of experience (QoE): the reward of ABR.

This file is the only one that knows the formula. The simulator compiles `linear_qoe`, and all that
plans with the QoE (MPC and the offline optimum) compiles the same function. The measures differ in
what the quality of a chunk is, and in their usual weights. Another measure with linear penalties is
a subclass of `LinearQoE` with another `quality`.

Sources: the linear QoE of MPC (SIGCOMM 2015) and Pensieve (SIGCOMM 2017), in Mbit/s; the measures
`log` and `hd` of Pensieve's paper, without a unit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.configs import from_json, option
from netllm_gym.data.abr.video import PENSIEVE_LADDER_MBPS, Video
from netllm_gym.errors import InputError

_HD_QUALITY = (1.0, 2.0, 3.0, 12.0, 15.0, 20.0)  # of the rungs of Pensieve's ladder


@dataclass(frozen=True)
class LinearQoE:
    """Weights of `quality - rebuffer_penalty * stall - smoothness_penalty * |quality change|`.

    Here the quality of a chunk is its bitrate in Mbit/s.

    Attributes:
        rebuffer_penalty: QoE lost per second of stall. Left out, that of the measure: 4.3 of
            linear, 2.66 of log, 8 of hd; table has none.
        smoothness_penalty: QoE lost per change of the quality by 1 between two chunks; usually 1.
        kind: Name of the measure, which follows from the class.
    """

    rebuffer_penalty: float = 4.3
    smoothness_penalty: float = 1.0
    kind: str = field(default="", init=False, metadata=option(derived=True))

    def __post_init__(self) -> None:
        known = {kind: name for name, kind in QOES.items()}
        object.__setattr__(self, "kind", known.get(type(self), type(self).__name__))
        for name in ("rebuffer_penalty", "smoothness_penalty"):
            value = getattr(self, name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            if not (is_number and math.isfinite(value) and value >= 0):
                raise InputError(f"{name} must be finite and at least 0, got {value!r}")

    def quality(self, ladder_mbps: FloatArray) -> FloatArray:
        """Return (rungs,) the quality of a chunk on each rung.

        Args:
            ladder_mbps: (rungs,) bitrates, which are the quality of the linear QoE.
        """
        return ladder_mbps

    def quality_of(self, video: Video) -> FloatArray:
        """Return (chunks, rungs) the quality of each chunk that is played."""
        quality = np.asarray(self.quality(video.ladder_mbps), np.float64)
        return np.tile(quality, (video.num_chunks, 1))

    @property
    def unit(self) -> str:
        """The unit of the QoE; empty if it has none."""
        return "Mbit/s" if self.kind == "linear" else ""

    @property
    def unusual(self) -> dict[str, str]:
        """Say in which options this is not the linear QoE with its usual weights."""
        found = {} if self.kind == "linear" else {"qoe": self.kind}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.init and value != each.default:
                found[each.name] = f"{value:g}" if isinstance(value, float | int) else str(value)
        return found


@dataclass(frozen=True)
class LogQoE(LinearQoE):
    """The quality of a chunk is ln(bitrate / lowest bitrate)."""

    rebuffer_penalty: float = 2.66

    def quality(self, ladder_mbps: FloatArray) -> FloatArray:
        """Return (rungs,) qualities."""
        return np.asarray(np.log(ladder_mbps / ladder_mbps[0]), np.float64)


@dataclass(frozen=True)
class HDQoE(LinearQoE):
    """The quality of a chunk is a number for each rung of Pensieve's ladder, high for HD."""

    rebuffer_penalty: float = 8.0

    def quality(self, ladder_mbps: FloatArray) -> FloatArray:
        """Return (rungs,) qualities; refuse other ladders, for which there are no numbers."""
        if not np.array_equal(ladder_mbps, PENSIEVE_LADDER_MBPS):
            wanted = ", ".join(f"{each:g}" for each in PENSIEVE_LADDER_MBPS)
            raise InputError(
                f"qoe must be another than hd, which knows the ladder {wanted} Mbit/s alone, "
                f"for the ladder {', '.join(f'{each:g}' for each in ladder_mbps)}"
            )
        return np.array(_HD_QUALITY)


@dataclass(frozen=True)
class TableQoE(LinearQoE):
    """The quality of a chunk is the one that the video states, such as its VMAF.

    The penalty of a stall has no usual value: it is on the scale of the qualities.
    """

    rebuffer_penalty: float = field()

    def quality_of(self, video: Video) -> FloatArray:
        """Return (chunks, rungs) the video's qualities; refuse a video that has none."""
        if video.quality is None:
            raise InputError(
                f"qoe must be another than table for the video {video.name}, which states no "
                "qualities: give quality_file, or write them into video.json"
            )
        return np.array(video.quality[: video.num_chunks])


QOES: dict[str, type[LinearQoE]] = {
    "linear": LinearQoE,
    "log": LogQoE,
    "hd": HDQoE,
    "table": TableQoE,
}


def qoe_of(qoe: Any, weights: Mapping[str, Any]) -> LinearQoE:
    """Return the QoE that an environment is made with.

    Args:
        qoe: A QoE; the name of a measure; the fields of a QoE, as JSON has them; or None, linear.
        weights: Penalties that replace those of the QoE.
    """
    weights = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in weights.items()
        if value is not None
    }
    if isinstance(qoe, LinearQoE):
        return replace(qoe, **weights)
    values = {"kind": "linear" if qoe is None else qoe} if not isinstance(qoe, Mapping) else qoe
    kind = values.get("kind", "linear")
    if not isinstance(kind, str) or kind not in QOES:
        raise InputError(f"qoe must be a LinearQoE or one of {', '.join(QOES)}, got {kind!r}")
    own = {name: value for name, value in values.items() if name != "kind"}
    if kind == "table" and "rebuffer_penalty" not in {**own, **weights}:
        raise InputError(
            "rebuffer_penalty must be given for the qoe table, on the scale of its qualities"
        )
    return from_json(QOES[kind], {**own, **weights})


def linear_qoe(
    quality: float,
    rebuffer_s: float,
    quality_change: float,
    rebuffer_penalty: float,
    smoothness_penalty: float,
) -> float:
    """Return the QoE of one chunk, or of several chunks from their sums.

    Args:
        quality: Of the chunk, or its sum over the chunks.
        rebuffer_s: Stall before the chunk was there.
        quality_change: Absolute difference to the chunk before.
        rebuffer_penalty: Of `LinearQoE`.
        smoothness_penalty: Of `LinearQoE`.
    """
    return quality - rebuffer_penalty * rebuffer_s - smoothness_penalty * quality_change
