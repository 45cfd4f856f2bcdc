"""What a report shows of one episode: rates and round-trip times over time, for each policy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from netllm_gym.charts import Axis, Chart, Mark, area_path, nice_axis, step_path
from netllm_gym.data.episode import Episode
from netllm_gym.evaluation import Table
from netllm_gym.report_replay import Key, Replay, Side, View, replay, show

from congestion_control.links import INTERVAL_S, NUM_INTERVALS

BORDERS_S = INTERVAL_S * np.arange(NUM_INTERVALS + 1)


def play(table: Table, policies: Sequence[str], number: int | None = None) -> Replay:
    """Play one episode of a table's case anew; see `replay`."""
    return replay(table, policies, number, lambda env: None, _record, _link)


def view(played: Replay) -> View:
    """Return rates and delays of every policy, all on the same axes."""
    infos = [side.record for side in played.sides]
    time = nice_axis(0.0, float(BORDERS_S[-1]), widen=False)
    rate = nice_axis(0.0, max(float(each["capacity_mbps"].max()) for each in infos))
    delay = nice_axis(0.0, max(float(each["delay_ms"].max()) for each in infos), 3)
    return show(
        played,
        "One link, played through",
        _facts,
        [(_rates(side, time, rate), _delays(side, time, delay)) for side in played.sides],
        (
            Key("link", "capacity", is_line=False),
            Key("measured", "throughput"),
            Key("buffer", "round-trip time"),
        ),
        note="The axes are the same for both.",
    )


def _record(env: Any, episode: Episode) -> Any:
    return episode.infos


def _link(env: Any) -> str:
    return f"link {env.case(0)['link']}"


def _facts(side: Side) -> tuple[tuple[str, str], ...]:
    infos = side.record
    return (
        ("utility", f"{side.value:.4f}"),
        ("throughput, Mbit/s", f"{infos['throughput_mbps'].mean():.2f}"),
        ("round-trip time, ms", f"{infos['delay_ms'].mean():.1f}"),
        ("lost, %", f"{100.0 * infos['loss_share'].mean():.2f}"),
    )


def _rates(side: Side, time: Axis, rate: Axis) -> Chart:
    infos = side.record
    return Chart(
        title=f"{side.policy}: capacity of the link and throughput over time",
        x=time,
        y=rate,
        x_label="",
        y_label="Mbit/s",
        marks=(
            Mark("area", "link", area_path(time, rate, BORDERS_S, infos["capacity_mbps"])),
            Mark("line", "measured", step_path(time, rate, BORDERS_S, infos["throughput_mbps"])),
        ),
        height="middle",
    )


def _delays(side: Side, time: Axis, delay: Axis) -> Chart:
    path = step_path(time, delay, BORDERS_S, side.record["delay_ms"])
    return Chart(
        title=f"{side.policy}: mean round-trip time of each interval",
        x=time,
        y=delay,
        x_label="seconds since the episode began",
        y_label="round trip, ms",
        marks=(Mark("line", "buffer", path),),
        height="low",
    )
