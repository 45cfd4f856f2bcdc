"""What a report shows of one episode: rates and round-trip times over time, for each policy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from netllm_gym.arrays import FloatArray
from netllm_gym.envs.curves import staircase
from netllm_gym.pools.episode import Episode
from netllm_gym.report.charts import Axis, Chart, nice_axis
from netllm_gym.report.replay import ControlPictures, Drawing, Key, Replay, Side

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
        infos = [side.record for side in played.sides]
        time = nice_axis(0.0, float(BORDERS_S[-1]), widen=False)
        rate = nice_axis(0.0, max(float(each["capacity_mbps"].max()) for each in infos))
        delay = nice_axis(0.0, max(float(each["delay_ms"].max()) for each in infos), 3)
        return Drawing(
            [(_rates(side, time, rate), _delays(side, time, delay)) for side in played.sides],
            note="The axes are the same for both.",
        )


def _rates(side: Side, time: Axis, rate: Axis) -> Chart:
    infos = side.record
    marks = (
        staircase("link", BORDERS_S, infos["capacity_mbps"], filled=True),
        staircase("measured", BORDERS_S, infos["throughput_mbps"]),
    )
    title = f"{side.policy}: capacity of the link and throughput over time"
    return Chart(title, time, rate, x_label="", y_label="Mbit/s", marks=marks, height="middle")


def _delays(side: Side, time: Axis, delay: Axis) -> Chart:
    marks = (staircase("buffer", BORDERS_S, side.record["delay_ms"]),)
    title = f"{side.policy}: mean round-trip time of each interval"
    x_label, y_label = "seconds since the episode began", "round trip, ms"
    return Chart(title, time, delay, x_label=x_label, y_label=y_label, marks=marks, height="low")
