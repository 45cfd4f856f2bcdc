"""Tables read back from the files that `bench --json` writes, which anybody may have edited."""

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from netllm_gym.arrays import FloatArray
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with, printable
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import Problem
from netllm_gym.typed_json import Line, Name, Rule, read_checked, short

LARGEST = 1e12  # of any number; differences of larger ones could overflow

Number = Annotated[
    float, Rule(lambda value: abs(value) <= LARGEST, f"be a number within +-{LARGEST:g}")
]
Numbers = Annotated[list[Number], Rule(bool, "be a list of numbers")]
Interval = Annotated[
    tuple[Number, Number],
    Rule(lambda bounds: bounds[0] <= bounds[1], "have low <= high"),
]


class Versus(TypedDict):
    """Paired difference between a policy and another one: its mean and confidence interval."""

    policy: Name
    mean: Number
    ci95: Interval | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One policy's result on a case.

    Attributes:
        policy: Its name.
        metric: What `mean` measures.
        mean: Over episodes, or windows.
        ci95: Bootstrap over groups that are not independent (recordings; videos and users); none
            where all are of one group.
        n: Episodes, or windows.
        per_episode: (n,) the metric of each, in the order of the case.
        decision_ms: Wall time per decision or prediction, all side by side; None of a limit.
        components: Means of what is reported beside the metric; None of a limit.
        trained_on: What a learned policy was trained on; one that saw the case, or was selected on
            it, says so.
        versus: Paired difference to the strongest baseline, or to the policy that was asked for, by
            its name.
        upper_bound: Mean that no policy can exceed, where the policy certifies one.
        by_step: (F,) mean of the metric at each future sample, of a predictor.
    """

    policy: Name
    metric: Line
    mean: Number
    ci95: Interval | None = None
    n: int
    per_episode: Numbers
    decision_ms: Number | None = None
    components: dict[str, Number | None]
    trained_on: Line = ""
    versus: Versus | None = None
    upper_bound: Number | None = None
    by_step: Numbers | None = None

    def __post_init__(self) -> None:
        """Make names that come from outside fit to be printed, written and read again."""
        object.__setattr__(self, "policy", printable(self.policy))
        object.__setattr__(self, "trained_on", printable(self.trained_on))
        if self.versus is not None:
            versus: Versus = {**self.versus, "policy": printable(self.versus["policy"])}
            object.__setattr__(self, "versus", versus)


@dataclass(frozen=True)
class Table:
    """All rows of one case, and what made them.

    Attributes:
        problem: Short name.
        case: What the policies were evaluated on, as text.
        commit: Of the code.
        rows: One per policy.
        remarks: Sentences on what was repaired or left out in the data.
        groups: What the intervals are bootstrapped over, with their numbers; empty for the
            problem's default.
        members: For each way in which episodes are grouped, the number of each episode's group.
        failures: Policies without a row -> why they have none.
        unfinished: While policies that were asked for have no row, a hash of what was asked, so
            that the same command keeps the rows; intervals may be missing then.
    """

    problem: Line
    case: Annotated[dict[Line, Line], Rule(bool, "say what was evaluated")]
    commit: Line
    rows: Annotated[list[Row], Rule(bool, "be a list of results")]
    remarks: list[Line] = field(default_factory=list)
    groups: Line = ""
    members: list[list[int]] = field(default_factory=list)
    failures: dict[Name, Line] = field(default_factory=dict)
    unfinished: Line = ""

    def __post_init__(self) -> None:
        """Make text that comes from outside fit to be printed, written and read again."""
        for name in ("case", "failures"):
            texts = {printable(key): printable(text) for key, text in getattr(self, name).items()}
            object.__setattr__(self, name, texts)
        object.__setattr__(self, "remarks", [printable(remark) for remark in self.remarks])

    def to_json(self) -> str:
        """Return the table as JSON text; equal tables give equal text."""
        return json.dumps(asdict(self), indent=1) + "\n"


def row_of(problem: Problem, policy: str, values: FloatArray, **told: Any) -> Row:
    """Return the row of a policy with these (E,) values of the metric, without intervals.

    `told` has the other fields of the row.
    """
    return Row(
        policy=policy,
        metric=problem.metric,
        mean=float(values.mean()),
        n=len(values),
        per_episode=values.tolist(),
        **told,
    )


def read_table(path: Path) -> Table:
    """Read a table.

    Raises:
        InputError: If it is no table; the sentence names the file and the place in it.
    """
    if not path.is_file():
        raise InputError(f"table must be a file written by bench --json, got {path}, which is none")
    # Files may have fields of later versions.
    table = read_checked(path, Table, "the table", ignore_unknown=True)
    with errors_begin_with(path):
        return _checked(table)


def _checked(table: Table) -> Table:
    """Return the table with the components of its problem, if its parts agree with each other."""
    problem, rows = find_problem(table.problem), table.rows
    checked = [_checked_row(f"rows[{number}]", row, problem) for number, row in enumerate(rows)]
    names = Counter(row.policy for row in rows)
    for policy, count in names.items():
        if count > 1:
            raise InputError(f"policies must have different names, got {policy!r} {count} times")
    for number, row in enumerate(rows):
        if row.n != rows[0].n:
            raise InputError(f"rows[{number}].n must be that of rows[0], {rows[0].n}, got {row.n}")
        if row.versus is not None and row.versus["policy"] not in names:
            raise InputError(
                f"rows[{number}].versus.policy must be a row of the table, "
                f"got {row.versus['policy']!r}"
            )
    steps = {len(row.by_step) for row in rows if row.by_step is not None}
    if len(steps) > 1:
        raise InputError(f"by_step must be as long in all rows, got {sorted(steps)}")
    episodes = rows[0].n
    for groups in table.members:
        if len(groups) != episodes or not all(0 <= group < episodes for group in groups):
            raise InputError(
                f"members must have a group's number for each episode, got {short(table.members)}"
            )
    return replace(table, rows=checked)


def _checked_row(where: str, row: Row, problem: Problem) -> Row:
    """Return a row with the components of the problem, if it agrees with itself and with that."""
    if row.n != len(row.per_episode):
        raise InputError(f"{where}.n must count per_episode, {len(row.per_episode)}, got {row.n}")
    if not math.isclose(row.mean, math.fsum(row.per_episode) / row.n, rel_tol=1e-6, abs_tol=1e-6):
        raise InputError(f"{where}.mean must be the mean of per_episode, got {row.mean}")
    if row.metric != problem.metric:
        raise InputError(f"{where}.metric must be {problem.metric}, got {row.metric!r}")
    if missing := [name for name in problem.components if name not in row.components]:
        there = short(sorted(row.components))
        raise InputError(f"{where}.components must have {missing[0]}, got {there}")
    return replace(row, components={name: row.components[name] for name in problem.components})
