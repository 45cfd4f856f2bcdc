"""What a report shows of one episode: rates and round-trip times over time, for each policy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from netllm_gym.arrays import FloatArray
from netllm_gym.envs.curves import staircase
from netllm_gym.pools.episode import Episode
from netllm_gym.report.replay import ControlPictures, Drawing, Key, Panel, Replay, Side

from congestion_control.links import INTERVAL_S, NUM_INTERVALS

BORDERS_S = INTERVAL_S * np.arange(NUM_INTERVALS + 1)


class CongestionPictures(ControlPictures):
    """Rates and round-trip times of each policy over time, all on the same axes."""

    title = "One link, played through"
    side_keys = (
        Key("link", "capacity", is_line=False),
        Key("measured", "throughput"),
        Key("buffer", "round-trip time"),
    )

    def record(self, env: Any, episode: Episode) -> Mapping[str, FloatArray]:
        """Return the infos of the episode, (200,) each."""
        return episode.infos

    def describe(self, case: Any, episode: Any) -> str:
        """Name the link."""
        return f"link {case.case(0)['link']}"

    def facts(self, side: Side) -> tuple[tuple[str, str], ...]:
        """Return the utility and what it is made of."""
        infos = side.record
        return (
            ("utility", f"{side.value:.4f}"),
            ("throughput, Mbit/s", f"{infos['throughput_mbps'].mean():.2f}"),
            ("round-trip time, ms", f"{infos['delay_ms'].mean():.1f}"),
            ("lost, %", f"{100.0 * infos['loss_share'].mean():.2f}"),
        )

    def draw(self, played: Replay) -> Drawing:
        """Draw rates and round-trip times of every policy."""
        return Drawing(
            [_panels(side) for side in played.sides], note="The axes are the same for both."
        )


def _panels(side: Side) -> tuple[Panel, Panel]:
    infos = side.record
    rates = Panel(
        f"{side.policy}: capacity of the link and throughput over time",
        y_label="Mbit/s",
        marks=(
            staircase("link", BORDERS_S, infos["capacity_mbps"], filled=True),
            staircase("measured", BORDERS_S, infos["throughput_mbps"]),
        ),
        height="middle",
    )
    delays = Panel(
        f"{side.policy}: mean round-trip time of each interval",
        y_label="round trip, ms",
        marks=(staircase("buffer", BORDERS_S, infos["delay_ms"]),),
        height="low",
    )
    return rates, delays
