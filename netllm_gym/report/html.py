"""Tables as one HTML file that needs no network: sortable, with charts, light and dark, printable.

This module computes texts and positions from numbers. The markup is in `templates/`, where every
text that comes from a table is escaped. Equal inputs give equal bytes.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from netllm_gym.envs.curves import line
from netllm_gym.errors import MissingDataError
from netllm_gym.evaluation.tables import Row, Table
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import PredictionProblem, Problem
from netllm_gym.report.charts import Axis, Chart, cdf_line, fenced, nice_axis
from netllm_gym.report.replay import Replay, pictures_of, row_styles
from netllm_gym.report.text import (
    compared_with,
    interval_text,
    number_text,
    ranked,
    table_notes,
    title_text,
)
from netllm_gym.version import __version__

UNITS = {
    "mbps": "Mbit/s",
    "s": "s",
    "ms": "ms",
    "deg": "degrees",
    "bytes": "bytes",
    "share": "share",
}


class Head(NamedTuple):
    """The head of a column of numbers."""

    name: str
    unit: str


class Cell(NamedTuple):
    """A number in the table."""

    text: str
    order: float | None  # what the column is sorted by; none goes to the end
    detail: str = ""  # such as its interval
    muted: bool = False  # a difference whose interval holds 0


class Whisker(NamedTuple):
    """An interval on the axis of its column, in per cent."""

    low: float
    mean: float | None  # none where it lies beyond the axis
    high: float
    beyond: tuple[str, ...]  # ends of the axis, left and right, that the interval passes


class RowView(NamedTuple):
    """A row of the table."""

    number: int  # by rank, from 0
    policy: str
    style: str  # classes of its line
    badges: tuple[str, ...]
    whisker: Whisker
    cells: tuple[Cell, ...]
    trained_on: str
    leak: str


class Bar(NamedTuple):
    """One policy's bar, in per cent of the axis."""

    policy: str
    style: str
    left: float
    width: float
    text: str
    cut: bool


class Panel(NamedTuple):
    """The bars of one component."""

    head: Head
    axis: Axis
    bars: tuple[Bar, ...]


class Section:
    """What the page shows of one table; the template reads its attributes."""

    def __init__(self, number: int, table: Table, played: Replay | None) -> None:
        self.number, self.table = number, table
        self.problem, rows = find_problem(table.problem), ranked(table)
        self.title, self.notes, versus = title_text(table), table_notes(table), compared_with(table)
        unit = self.problem.unit_in(table.case)
        self.heads = [
            Head(self.problem.metric, unit),
            *([Head(f"vs {versus}", "paired")] if versus else []),
            *(quantity(name) for name in self.problem.components),
            Head("decision", "ms"),
        ]
        styles = row_styles(rows, self.problem)
        ends = [end for row in rows for end in (row.mean, *(row.ci95 or ()))]
        self.interval_axis = axis = nice_axis(*fenced(ends), about=3)
        places = [axis.percent(row.mean) for row in rows if row.policy == versus]
        self.reference = places[0] if places else None  # of the compared policy's mean
        self.rows = [
            _row(place, row, styles[place], self.problem, versus, axis)
            for place, row in enumerate(rows)
        ]
        self.cdf, self.cdf_note = _cdf(self.problem, unit, rows, styles)
        self.by_step = None
        if isinstance(self.problem, PredictionProblem):
            self.by_step = _by_step(self.problem, rows, styles)
        self.panels = [_panel(name, rows, styles) for name in self.problem.components]
        self.played = pictures_of(table.problem).view(played) if played is not None else None


def check_can_report() -> None:
    """Refuse to write a report if the template engine is not installed."""
    if find_spec("jinja2") is None:
        raise MissingDataError(
            "report must have jinja2 to write with, got no such package: "
            "pip install 'netllm-gym[report]'"
        )


def play_episode(table: Table, policies: Sequence[str], number: int | None = None) -> Replay:
    """Play one episode of a table's case again; see `Pictures.play`."""
    return pictures_of(table.problem).play(table, policies, number)


def render_report(tables: Sequence[Table], played: Sequence[Replay | None]) -> str:
    """Return the page.

    Args:
        tables: At least one.
        played: One per table: an episode of its case that was played again, or None.
    """
    check_can_report()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("netllm_gym.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [
        Section(number, table, replay)
        for number, (table, replay) in enumerate(zip(tables, played, strict=True), start=1)
    ]
    page = environment.get_template("report.html")
    return page.render(sections=sections, version=__version__)


# Inner parts -------------------------------------------------------------------------------------


def quantity(name: str) -> Head:
    """Split a name and the unit at its end: `rebuffer_s` is "rebuffer" in "s"."""
    what, _, unit = name.rpartition("_")
    return Head(what.replace("_", " "), UNITS[unit]) if what and unit in UNITS else Head(name, "")


def _row(
    number: int, row: Row, style: str, problem: Problem, versus: str | None, axis: Axis
) -> RowView:
    low, high = row.ci95 or (row.mean, row.mean)
    trained_on, _, leak = row.trained_on.partition(" (leaky: ")
    badges = ["bound"] if row.policy == problem.bound else []
    badges += ["compared with"] if row.policy == versus else []
    cells = [Cell(f"{row.mean:.4f}", row.mean, interval_text(row.ci95))]
    if versus and row.versus is None:
        cells.append(Cell("", None))
    elif versus and row.versus is not None:
        gain, ci95 = row.versus["mean"], row.versus["ci95"]
        muted = ci95 is None or ci95[0] <= 0.0 <= ci95[1]
        cells.append(Cell(f"{gain:+.4f}", gain, interval_text(ci95, "+"), muted))
    cells += [Cell(number_text(each, 4), each) for each in row.components.values()]
    cells.append(Cell(number_text(row.decision_ms, 3), row.decision_ms))
    return RowView(
        number=number,
        policy=row.policy,
        style=style,
        badges=tuple(badges),
        whisker=_whisker(axis, low, row.mean, high),
        cells=tuple(cells),
        trained_on=trained_on,
        leak=leak.removesuffix(")"),
    )


def _whisker(axis: Axis, low: float, mean: float, high: float) -> Whisker:
    passed = [("left", low < axis.low), ("right", high > axis.high)]
    return Whisker(
        low=axis.percent(low),
        mean=axis.percent(mean) if axis.low <= mean <= axis.high else None,
        high=axis.percent(high),
        beyond=tuple(end for end, passes in passed if passes),
    )


def _cdf(
    problem: Problem, unit: str, rows: Sequence[Row], styles: Sequence[str]
) -> tuple[Chart, str]:
    """Return the chart of distributions over episodes, and a note on values beyond the axis."""
    values = np.concatenate([row.per_episode for row in rows])
    x, y = nice_axis(*fenced(values), about=6), nice_axis(0.0, 1.0)
    beyond = []
    for row in rows:
        outside = sum(not x.low <= value <= x.high for value in row.per_episode)
        beyond += [f"{row.policy} in {outside} of {row.n}"] if outside else []
    lines = [
        cdf_line(style, row.per_episode, x, number)
        for number, (row, style) in enumerate(zip(rows, styles, strict=True))
    ]
    chart = Chart(
        title=f"Distribution of {problem.metric} over {problem.sample}s, a staircase per policy",
        x=x,
        y=y,
        x_label=f"{problem.metric} of {problem.one_sample}, {unit}",
        y_label=f"share of {problem.sample}s at or below",
        marks=tuple(reversed(lines)),  # the best is drawn last, on top
    )
    whose = f"{problem.sample.capitalize()}s beyond the axis"
    return chart, f"{whose}: {', '.join(beyond)}." if beyond else ""


def _by_step(
    problem: PredictionProblem, rows: Sequence[Row], styles: Sequence[str]
) -> Chart | None:
    """Return the chart of the metric at each future sample; None if no row has it."""
    known = [
        (number, row.by_step, style)
        for number, (row, style) in enumerate(zip(rows, styles, strict=True))
        if row.by_step is not None
    ]
    if not known:
        return None
    ahead_s = problem.step_s * np.arange(1, len(known[0][1]) + 1)
    x = nice_axis(0.0, float(ahead_s[-1]), widen=False)
    y = nice_axis(0.0, max(max(steps) for _, steps, _ in known))
    lines = [line(style, ahead_s, steps, number) for number, steps, style in known]
    return Chart(
        title=f"{problem.metric} at each future sample, a line per policy",
        x=x,
        y=y,
        x_label="seconds ahead",
        y_label=f"{problem.metric} at that sample",
        marks=tuple(reversed(lines)),
    )


def _panel(name: str, rows: Sequence[Row], styles: Sequence[str]) -> Panel:
    known = [(row, style, row.components[name]) for row, style in zip(rows, styles, strict=True)]
    shown = [(row, style, value) for row, style, value in known if value is not None]
    low, high = fenced([value for _, _, value in shown])
    axis = nice_axis(min(low, 0.0), max(high, 0.0), about=3)
    zero = axis.percent(0.0)
    bars = []
    for row, style, value in shown:
        end = axis.percent(value)
        cut = not axis.low <= value <= axis.high
        bars.append(Bar(row.policy, style, min(zero, end), abs(end - zero), f"{value:.4f}", cut))
    return Panel(quantity(name), axis, tuple(bars))
