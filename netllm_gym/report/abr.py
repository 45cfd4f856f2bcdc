"""Charts of ABR for a report: one trace over time, for each policy."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from netllm_gym.envs.abr.playback import Playback, link_capacity
from netllm_gym.envs.curves import Steps
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.problem import Problem
from netllm_gym.report.replay import ControlPictures, Drawing, Key, Panel, Replay, Side


@dataclass(frozen=True)
class PlayedTrace:
    """One trace as one policy played it."""

    playback: Playback
    link: Steps  # its capacity on the clock of the episode

    @property
    def bitrate_mbps(self) -> float:
        """Mean bitrate of the chunks that count."""
        return float(self.playback.bitrate_mbps[1:].mean())

    @property
    def rebuffer_s(self) -> float:
        """Seconds for which playback was stalled after it had begun."""
        return float(self.playback.rebuffer_s[1:].sum())

    @property
    def switches(self) -> int:
        """How often the bitrate changed."""
        return int(np.count_nonzero(np.diff(self.playback.bitrate_mbps)))


class ABRPictures(ControlPictures):
    """Rates and buffer of each policy over time, all on the same axes."""

    title = "One trace, played through"
    side_keys = (
        Key("link", "link capacity", is_line=False),
        Key("measured", "measured throughput"),
        Key("bitrate", "bitrate"),
        Key("buffer", "buffer"),
        Key("stall", "stall", is_line=False),
        Key("startup", "start-up", is_line=False),
    )

    def replayable(self, problem: Problem) -> Collection[str]:
        """Return all parts of a case but the noise, which depends on the table's seed."""
        return [name for name in problem.case_options if not name.startswith("noise")]

    def record(self, env: Any, episode: Episode) -> PlayedTrace:
        """Return the episode and the link under it; see the base."""
        playback = Playback.after_reset(episode.infos, env.video, env.players[0].first_rung)
        trace, pointer = env.trace_set.traces[env.trace_index[0]], int(env.start_pointer[0])
        return PlayedTrace(playback, link_capacity(playback, trace, pointer, env.players[0]))

    def describe(self, case: Any, episode: Any) -> str:
        """Name the trace and where the episode began; see the base."""
        trace = case.trace_set.traces[case.trace_index[0]]
        return f"trace {trace.name} from row {int(case.start_pointer[0])}"

    def facts(self, side: Side) -> tuple[tuple[str, str], ...]:
        """Return QoE and its parts; see the base."""
        record: PlayedTrace = side.record
        return (
            ("qoe", f"{side.value:.4f}"),
            ("bitrate, Mbit/s", f"{record.bitrate_mbps:.3f}"),
            ("stalled, s", f"{record.rebuffer_s:.2f}"),
            ("switches", f"{record.switches}"),
        )

    def draw(self, played: Replay) -> Drawing:
        """Draw rates and buffer of every policy; see the base."""
        return Drawing(
            [_panels(side) for side in played.sides],
            note="Rates above the top of the upper chart are cut off.",
        )


def _panels(side: Side) -> tuple[Panel, Panel]:
    record: PlayedTrace = side.record
    playback = record.playback
    rates = Panel(
        f"{side.policy}: link capacity, measured throughput and bitrate over time; "
        f"mean bitrate {record.bitrate_mbps:.2f} Mbit/s, {record.switches} switches",
        y_label="Mbit/s",
        marks=playback.rate_marks(record.link),
        height="middle",
        top=_highest_mbps(record),
    )
    buffer = Panel(
        f"{side.policy}: buffer over time; stalled {record.rebuffer_s:.2f} s "
        f"after a start-up of {playback.startup_s:.2f} s",
        y_label="buffer, s",
        marks=playback.buffer_marks(),
        height="low",
    )
    return rates, buffer


def _highest_mbps(record: PlayedTrace) -> float:
    """Return what the axis must reach: every bitrate, and the link for 95 % of the time."""
    lasts_s = np.diff(record.link.border_s)
    order = np.argsort(record.link.value)
    elapsed_s = np.cumsum(lasts_s[order])
    usual = record.link.value[order][np.searchsorted(elapsed_s, 0.95 * elapsed_s[-1])]
    return max(float(usual), float(record.playback.bitrate_mbps.max()))
