"""Play one episode of a table's case again for a report, and describe what the report shows of it.

This module has what all problems share. What a problem records and draws is in a module of its own,
such as `abr.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from netllm_gym.envs.curves import Mark
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.evaluation.tables import Row, Table
from netllm_gym.policies.loading import check_names, load_policy
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import ControlProblem, Problem
from netllm_gym.report.charts import Chart, nice_axis
from netllm_gym.report.text import ranked

SAME = 1e-6  # the metric of one episode, played twice, may differ by rounding
COLOURS, DASHES = 6, 4  # of lines, as in report.css; more rows than their product look alike


@dataclass(frozen=True)
class Side:
    """The episode as one policy played it."""

    policy: str
    style: str  # CSS classes of its lines
    value: float  # of the metric
    in_table: float | None  # the value there; None if the policy has no row
    record: Any  # from which the problem draws its charts

    @property
    def differs(self) -> bool:
        """Whether the table has another value for this episode."""
        return self.in_table is not None and abs(self.value - self.in_table) > SAME


@dataclass(frozen=True)
class Replay:
    """One episode, played by one or two policies."""

    problem: str
    number: int  # in the case, from 0
    described: str
    chosen: str  # why this one
    sides: tuple[Side, ...]  # of each policy


class Key(NamedTuple):
    """An entry of a legend."""

    style: str
    text: str
    is_line: bool = True


class SideView(NamedTuple):
    """What a page shows of one policy."""

    policy: str
    facts: tuple[tuple[str, str], ...]  # name, number
    charts: tuple[Chart, ...]
    warning: str


class View(NamedTuple):
    """What a page shows of a replay."""

    title: str
    words: str
    charts: tuple[Chart, ...]  # of all policies together
    chart_keys: tuple[Key, ...]
    side_keys: tuple[Key, ...]
    sides: tuple[SideView, ...]


class Panel(NamedTuple):
    """A chart of one policy, which has its axes in common with those of the others."""

    title: str  # text for readers who cannot see it
    y_label: str
    marks: tuple[Mark, ...]
    height: str  # `middle` or `low`
    top: float | None = None  # what the vertical axis must reach; None takes the highest value

    @property
    def highest(self) -> float:
        """What the vertical axis must reach."""
        return self.top or max(float(mark.y.max(initial=0.0)) for mark in self.marks)


class Drawing(NamedTuple):
    """The charts of a replay."""

    sides: Sequence[Sequence[Panel]]  # of each policy, one below the other; axes begin at 0
    x_label: str = "seconds since the episode began"  # of the panels
    charts: tuple[Chart, ...] = ()  # of all policies together, in the styles of their sides
    note: str = ""  # a sentence about the charts

    def side_charts(self) -> list[tuple[Chart, ...]]:
        """Return the charts of each policy, on common axes."""
        marks = [mark for side in self.sides for panel in side for mark in panel.marks]
        x = nice_axis(0.0, max(mark.x.max(initial=0.0) for mark in marks), widen=False)
        rows: list[list[Chart]] = []
        for panels in zip(*self.sides, strict=True):
            about = 3 if panels[0].height == "low" else 5
            y = nice_axis(0.0, max(panel.highest for panel in panels), about)
            x_label = self.x_label if len(rows) == len(self.sides[0]) - 1 else ""
            rows.append(
                [
                    Chart(each.title, x, y, x_label, each.y_label, each.marks, each.height)
                    for each in panels
                ]
            )
        return list(zip(*rows, strict=True))


class Pictures(ABC):
    """How an episode or window of a problem is played again, and what a report draws of it.

    A problem's row names a subclass in `pictures`. `ControlPictures` has what control problems
    share.

    Attributes:
        title: Heading of this part of the page.
        side_keys: Legend of the charts of each policy.
        chart_keys: Legend of the charts of all policies, which names the policies besides.
    """

    title: ClassVar[str]
    side_keys: ClassVar[tuple[Key, ...]] = ()
    chart_keys: ClassVar[tuple[Key, ...]] = ()

    @abstractmethod
    def open(self, problem: Any, arguments: Mapping[str, Any]) -> Any:
        """Return the environment, or the windows, of a case."""

    @abstractmethod
    def episodes(self, case: Any, at_least: int) -> Sequence[Any]:
        """Return the episodes, or windows, of what `open` returned: as many as the table has."""

    @abstractmethod
    def play_one(self, problem: Any, case: Any, policy: Any, episode: Any) -> tuple[float, Any]:
        """Play one episode; return its metric and the record that charts are drawn from."""

    @abstractmethod
    def describe(self, case: Any, episode: Any) -> str:
        """Return a description of the episode that was played last."""

    @abstractmethod
    def facts(self, side: Side) -> tuple[tuple[str, str], ...]:
        """Return the names and numbers above a policy's charts."""

    @abstractmethod
    def draw(self, played: Replay) -> Drawing:
        """Return the charts of a replay."""

    def replayable(self, problem: Problem) -> Collection[str]:
        """Return the parts of a case from which an episode can be played again exactly."""
        return problem.default_case

    def play(self, table: Table, policies: Sequence[str], number: int | None = None) -> Replay:
        """Play one episode, or window, of a table's case again.

        Args:
            table: Names the case, which must be on this machine.
            policies: One or two names or folders of trained policies.
            number: Number of the episode. None takes the episode with the median difference between
                the two policies; for one policy, the episode of its median result; and the first
                episode if a policy has no row in the table.

        Raises:
            InputError: If a policy or the case is not on this machine, or is not the table's.
        """
        problem = find_problem(table.problem)
        if not 1 <= len(policies) <= 2:
            raise InputError(f"play must name one or two policies, got {len(policies)}")
        loaded = [load_policy(policy, table.problem) for policy in policies]
        try:
            case, episodes = self._case_of(table, problem)
        except InputError as error:
            raise InputError(f"{error}; --play none leaves the played episode out") from None
        actors = [policy.factory(case) for policy in loaded]
        for actor in actors:
            if hasattr(actor, "limits"):
                raise InputError(f"play must name policies that play, got {actor.name}, a limit")
        check_names(actor.name for actor in actors)
        rows = [next((row for row in table.rows if row.policy == a.name), None) for a in actors]
        why = "as asked"
        if number is None:
            number, why = _median_episode(rows)
        if not 0 <= number < len(episodes):
            raise InputError(f"episode must be in 0..{len(episodes) - 1}, got {number}")
        sides = []
        for place, (actor, row) in enumerate(zip(actors, rows, strict=True)):
            value, record = self.play_one(problem, case, actor, episodes[number])
            in_table = row.per_episode[number] if row is not None else None
            style = _style_of(table, actor.name, place)
            sides.append(Side(actor.name, style, value, in_table, record))
        described = self.describe(case, episodes[number])
        return Replay(table.problem, number, described, why, tuple(sides))

    def _case_of(self, table: Table, problem: Problem) -> tuple[Any, Sequence[Any]]:
        """Return the case of a table and its episodes, if this machine has the same."""
        may_name, count = self.replayable(problem), table.rows[0].n
        for name in sorted(set(table.case) - set(may_name)):
            value = table.case[name]
            raise InputError(f"case must have no {name} to be played again, got {value!r}")
        case = self.open(problem, problem.case_from_text(table.case))
        episodes = self.episodes(case, count)
        if len(episodes) != count:
            raise InputError(
                f"case must have the table's {count} {problem.sample}s, got {len(episodes)} on "
                "this machine"
            )
        return case, episodes

    def view(self, played: Replay) -> View:
        """Return what a page shows of a replay."""
        sample, drawn = find_problem(played.problem).sample, self.draw(played)
        sides = tuple(
            SideView(
                side.policy,
                self.facts(side),
                charts,
                f"The table says {side.in_table:.4f} of this {sample}: the policy depends on the "
                f"{sample}s before it, or case, policy or code are not those of the table."
                if side.differs
                else "",
            )
            for side, charts in zip(played.sides, drawn.side_charts(), strict=True)
        )
        words = f"{sample.capitalize()} {played.number}, {played.chosen}: {played.described}. "
        keys = [Key(side.style, side.policy) for side in played.sides] if drawn.charts else []
        return View(
            title=self.title,
            words=words + drawn.note,
            charts=drawn.charts,
            chart_keys=(*self.chart_keys, *keys),
            side_keys=self.side_keys,
            sides=sides,
        )


class ControlPictures(Pictures):
    """What the pictures of control problems share: one episode in an environment of one row."""

    @abstractmethod
    def record(self, env: Any, episode: Episode) -> Any:
        """Return what is drawn of an episode that has just ended in the environment."""

    def open(self, problem: ControlProblem, arguments: Mapping[str, Any]) -> Any:
        """Make the environment of a case, with one row."""
        return problem.make_env(1, **arguments)

    def episodes(self, case: Any, at_least: int) -> Sequence[Any]:
        """Return the episodes of the evaluation; see the base."""
        plan: Sequence[PlannedEpisode] = case.evaluation_plan(at_least)
        return plan

    def play_one(
        self, problem: ControlProblem, case: Any, policy: Any, episode: PlannedEpisode
    ) -> tuple[float, Any]:
        """Play one episode; see the base."""
        (played,) = rollout(policy, case, [episode], keep_observations=False).episodes
        return problem.metric_of(played.infos), self.record(case, played)


def pictures_of(problem: str) -> Pictures:
    """Return the pictures that a problem's row names.

    Raises:
        InputError: If there is no such problem, or its row names no pictures.
    """
    pictures: Pictures = find_problem(problem).part("pictures", Pictures)
    return pictures


def nameable_policies(table: Table) -> tuple[str, ...]:
    """Return the best policy that is known by its name and the bound, or the two best policies.

    Trained policies are left out, since a table does not have their folders, and limits, which do
    not play. The result is empty for a problem without pictures.
    """
    problem = find_problem(table.problem)
    if not problem.pictures:
        return ()
    names = [row.policy for row in ranked(table) if row.decision_ms is not None]
    named = [name for name in names if name.partition(":")[0] in problem.policies]
    bound = [name for name in named if name == problem.bound]
    return (*[name for name in named if name not in bound][: 2 - len(bound)], *bound)


def row_styles(rows: Sequence[Row], problem: Problem) -> list[str]:
    """Return the CSS classes of each row: a colour and a dash, or those of the bound."""
    others = iter(range(len(rows)))
    return ["bound" if row.policy == problem.bound else _style(next(others)) for row in rows]


def _style(number: int) -> str:
    return f"c{number % COLOURS} d{number // COLOURS % DASHES}"


def _style_of(table: Table, policy: str, place: int) -> str:
    """Return the style of a policy in the table; one without a row gets an unused style."""
    rows = ranked(table)
    styles = row_styles(rows, find_problem(table.problem))
    known = {row.policy: style for row, style in zip(rows, styles, strict=True)}
    return known.get(policy, _style(len(rows) + place))


def _median_episode(rows: Sequence[Row | None]) -> tuple[int, str]:
    known = [np.array(row.per_episode) for row in rows if row is not None]
    if len(known) < len(rows):
        return 0, "the first"
    values = known[0] - known[1] if len(known) == 2 else known[0]
    median = int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])
    of = "difference between the two" if len(known) == 2 else "result"
    return median, f"the one of median {of}, chosen by the table"
