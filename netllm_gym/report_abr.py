"""One trace of a table's case, played anew and laid on a time axis for a report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from netllm_gym.charts import (
    Axis,
    Chart,
    Mark,
    area_path,
    band_path,
    line_path,
    nice_axis,
    segments_path,
    step_path,
)
from netllm_gym.envs.abr.playback import Playback, link_capacity
from netllm_gym.envs.curves import Steps
from netllm_gym.errors import InputError
from netllm_gym.evaluation import Row, Table
from netllm_gym.problems import check_names, find_problem, load_policy
from netllm_gym.report import ranked
from netllm_gym.rollout import rollout

SAME = 1e-6  # QoE of one episode, played twice, may differ by rounding


@dataclass(frozen=True)
class Played:
    """What one policy did with the trace.

    Attributes:
        policy: Its name.
        qoe: Mean over the chunks that count, Mbit/s.
        in_table: The same number in the table, if the policy has a row there.
        playback: Its episode.
        link: Capacity of the link on the clock of its episode.
    """

    policy: str
    qoe: float
    in_table: float | None
    playback: Playback
    link: Steps

    @property
    def differs(self) -> bool:
        """Whether the table says something else of this episode."""
        return self.in_table is not None and abs(self.qoe - self.in_table) > SAME

    @property
    def bitrate_mbps(self) -> float:
        """Mean bitrate of the chunks that count."""
        return float(self.playback.bitrate_mbps[1:].mean())

    @property
    def rebuffer_s(self) -> float:
        """Seconds that playback stood still after it had begun."""
        return float(self.playback.rebuffer_s[1:].sum())

    @property
    def switches(self) -> int:
        """How often the bitrate changed."""
        return int(np.count_nonzero(np.diff(self.playback.bitrate_mbps)))


@dataclass(frozen=True)
class PlayedTrace:
    """One trace played through by one or two policies.

    Attributes:
        number: Of the episode in the case, from 0.
        trace: Its name.
        start_pointer: Trace row in which it begins.
        chosen: Why this one.
        sides: One per policy.
    """

    number: int
    trace: str
    start_pointer: int
    chosen: str
    sides: tuple[Played, ...]


def nameable_policies(table: Table) -> tuple[str, ...]:
    """Return the best row that can be played by its name alone and the bound, else the two best.

    Rows of trained policies are named after folders, which a table does not know.
    """
    problem = find_problem(table.problem)
    names = [row.policy for row in ranked(table)]
    named = [name for name in names if name.partition(":")[0] in problem.policies]
    bound = [name for name in named if name == problem.bound]
    return (*[name for name in named if name not in bound][: 2 - len(bound)], *bound)


def play_trace(table: Table, policies: Sequence[str], number: int | None = None) -> PlayedTrace:
    """Play one episode of a table's case anew.

    Args:
        table: Names the case; its traces and video must be on this machine.
        policies: One or two names or folders of trained policies.
        number: Of the episode; left out, the one whose difference between the two policies is the
            median of all (of one policy, its median episode; without rows of them, the first).

    Raises:
        InputError: If a policy or the case is not on this machine, or is not the table's.
    """
    problem = find_problem(table.problem)
    if not 1 <= len(policies) <= 2:
        raise InputError(f"play must name one or two policies, got {len(policies)}")
    unknown = sorted(set(table.case) - set(problem.default_case))
    if unknown:
        raise InputError(
            f"case must be {' and '.join(problem.default_case)} alone to be played again, "
            f"got {unknown[0]}; --play none leaves it out"
        )
    loaded = [load_policy(policy, table.problem) for policy in policies]
    try:
        env = problem.make_env(1, **table.case)
    except InputError as error:
        raise InputError(f"{error}; --play none leaves the played trace out") from None
    plan = env.evaluation_plan()
    if len(plan) != table.rows[0].n:
        raise InputError(
            f"case must have the table's {table.rows[0].n} episodes, "
            f"got {len(plan)} on this machine; --play none leaves the played trace out"
        )
    actors = [policy.factory(env) for policy in loaded]
    check_names(actor.name for actor in actors)
    rows = [next((row for row in table.rows if row.policy == actor.name), None) for actor in actors]
    chosen = "as asked"
    if number is None:
        number, chosen = _median_episode(rows)
    if not 0 <= number < len(plan):
        raise InputError(f"trace must be in 0..{len(plan) - 1}, got {number}")
    sides = []
    for actor, row in zip(actors, rows, strict=True):
        (episode,) = rollout(actor, env, [plan[number]]).episodes
        playback = Playback.after_reset(episode.infos, env.video)
        trace, pointer = env.trace_set.traces[env.trace_index[0]], int(env.start_pointer[0])
        link = link_capacity(playback, trace, pointer, env.players[0])
        in_table = row.per_episode[number] if row is not None else None
        sides.append(Played(actor.name, problem.metric_of(episode), in_table, playback, link))
    return PlayedTrace(number, trace.name, pointer, chosen, tuple(sides))


def _median_episode(rows: Sequence[Row | None]) -> tuple[int, str]:
    known = [np.array(row.per_episode) for row in rows if row is not None]
    if len(known) < len(rows):
        return 0, "the first"
    values = known[0] - known[1] if len(known) == 2 else known[0]
    median = int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])
    of = "difference between the two" if len(known) == 2 else "result"
    return median, f"the one of median {of}, chosen by the table"


def trace_charts(played: PlayedTrace) -> list[tuple[Chart, Chart]]:
    """Return rates and buffer of every policy, all on the same axes."""
    sides = played.sides
    time = nice_axis(0.0, max(float(side.playback.clock_s[-1]) for side in sides), widen=False)
    rate = nice_axis(0.0, max(_highest_mbps(side) for side in sides))
    full = nice_axis(0.0, max(float(side.playback.buffer().value.max()) for side in sides), about=3)
    return [(_rates(side, time, rate), _buffer(side, time, full)) for side in sides]


def _highest_mbps(side: Played) -> float:
    """Return what the axis must reach: every bitrate, and the link for 95 % of the time."""
    lasts_s = np.diff(side.link.border_s)
    order = np.argsort(side.link.value)
    elapsed_s = np.cumsum(lasts_s[order])
    usual = side.link.value[order][np.searchsorted(elapsed_s, 0.95 * elapsed_s[-1])]
    return max(float(usual), float(side.playback.bitrate_mbps.max()))


def _rates(side: Played, time: Axis, rate: Axis) -> Chart:
    playback, chosen = side.playback, side.playback.bitrate()
    measured = segments_path(
        time, rate, playback.request_s, playback.arrival_s, playback.throughput_mbps
    )
    return Chart(
        title=f"{side.policy}: link capacity, measured throughput and bitrate over time; "
        f"mean bitrate {side.bitrate_mbps:.2f} Mbit/s, {side.switches} switches",
        x=time,
        y=rate,
        x_label="",
        y_label="Mbit/s",
        marks=(
            Mark("area", "link", area_path(time, rate, *side.link)),
            *_bands(side, time),
            Mark("line", "measured", measured),
            Mark("line", "bitrate", step_path(time, rate, *chosen)),
        ),
    )


def _buffer(side: Played, time: Axis, full: Axis) -> Chart:
    return Chart(
        title=f"{side.policy}: buffer over time; stalled {side.rebuffer_s:.2f} s "
        f"after a start-up of {side.playback.startup_s:.2f} s",
        x=time,
        y=full,
        x_label="seconds since the episode began",
        y_label="buffer, s",
        marks=(
            *_bands(side, time),
            Mark("line", "buffer", line_path(time, full, *side.playback.buffer())),
        ),
    )


def _bands(side: Played, time: Axis) -> tuple[Mark, ...]:
    stalls_s = side.playback.stalls_s
    startup = Mark("band", "startup", band_path(time, [0.0], [side.playback.startup_s]))
    return (startup, Mark("band", "stall", band_path(time, stalls_s[:, 0], stalls_s[:, 1])))
