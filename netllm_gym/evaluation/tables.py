"""Tables read back from the files that `bench --json` writes, which anybody may have edited."""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from netllm_gym.errors import InputError
from netllm_gym.files import read_json
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import Problem


@dataclass(frozen=True)
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

    policy: str
    metric: str
    mean: float
    ci95: tuple[float, float] | None
    n: int
    per_episode: list[float]
    decision_ms: float | None
    components: dict[str, float | None]
    trained_on: str
    versus: dict[str, Any] | None = None
    upper_bound: float | None = None
    by_step: list[float] | None = None


@dataclass(frozen=True)
class Table:
    """All rows of one case, and what made them.

    Attributes:
        problem: Short name.
        case: What was played or predicted, as text.
        commit: Of the code.
        rows: One per policy.
        remarks: What was amiss in the data, a sentence each.
        groups: What intervals are bootstrapped over, with their numbers; nothing where the
            problem's own word says it.
        members: For each way in which episodes are grouped, the number of each one's group.
    """

    problem: str
    case: dict[str, Any]
    commit: str
    rows: list[Row]
    remarks: list[str] = field(default_factory=list)
    groups: str = ""
    members: list[list[int]] = field(default_factory=list)

    def to_json(self) -> str:
        """Return the table as JSON text; equal tables give equal text."""
        return json.dumps(asdict(self), indent=1) + "\n"


LARGEST = 1e12  # of any number; beyond it differences overflow


def read_table(path: Path) -> Table:
    """Read a table.

    Raises:
        InputError: If it is no table; the sentence names the file and the place in it.
    """
    if not path.is_file():
        raise InputError(f"table must be a file written by bench --json, got {path}, which is none")
    content = read_json(path)
    try:
        return _table(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _table(content: Any) -> Table:
    name = _text("problem", _part("the table", content, "problem"))
    problem = find_problem(name)
    case = _part("the table", content, "case")
    if not isinstance(case, dict) or not case:
        raise InputError(f"case must say what was played, got {_short(case)}")
    listed = _part("the table", content, "rows")
    if not isinstance(listed, list) or not listed:
        raise InputError(f"rows must be a list of results, got {_short(listed)}")
    rows = [_row(f"rows[{number}]", row, problem) for number, row in enumerate(listed)]
    names = [row.policy for row in rows]
    for policy, count in Counter(names).items():
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
    remarks = content.get("remarks", [])  # tables of the first version have none
    if not isinstance(remarks, list):
        raise InputError(f"remarks must be a list of sentences, got {_short(remarks)}")
    steps = {len(row.by_step) for row in rows if row.by_step is not None}
    if len(steps) > 1:
        raise InputError(f"by_step must be as long in all rows, got {sorted(steps)}")
    members = content.get("members", [])  # older tables have none
    if not isinstance(members, list) or not all(_is_grouping(way, rows[0].n) for way in members):
        raise InputError(
            f"members must have a group's number for each episode, got {_short(members)}"
        )
    return Table(
        problem=name,
        case={_text("case", key): _text(f"case.{key}", value) for key, value in case.items()},
        commit=_text("commit", _part("the table", content, "commit")),
        rows=rows,
        remarks=[_text(f"remarks[{number}]", each) for number, each in enumerate(remarks)],
        groups=_text("groups", content.get("groups", "")),  # older tables have none
        members=members,
    )


def _is_grouping(way: Any, count: int) -> bool:
    """Say whether these are numbers of groups from 0 up, one for each episode."""
    if not isinstance(way, list) or len(way) != count:
        return False
    return all(type(group) is int and 0 <= group < count for group in way)


def _row(where: str, row: Any, problem: Problem) -> Row:
    def part(name: str, check: Callable[[str, Any], Any]) -> Any:
        return check(f"{where}.{name}", _part(where, row, name))

    values = _part(where, row, "per_episode")
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}.per_episode must be a list of numbers, got {_short(values)}")
    per_episode = [
        _number(f"{where}.per_episode[{number}]", value) for number, value in enumerate(values)
    ]
    mean, n, metric = part("mean", _number), part("n", _number), part("metric", _text)
    if n != len(per_episode):
        raise InputError(f"{where}.n must count per_episode, {len(per_episode)}, got {n}")
    if not math.isclose(mean, math.fsum(per_episode) / n, rel_tol=1e-6, abs_tol=1e-6):
        raise InputError(f"{where}.mean must be the mean of per_episode, got {mean}")
    if metric != problem.metric:
        raise InputError(f"{where}.metric must be {problem.metric}, got {metric!r}")
    components = _part(where, row, "components")
    return Row(
        policy=_name(f"{where}.policy", _part(where, row, "policy")),
        metric=metric,
        mean=mean,
        ci95=part("ci95", _interval),
        n=len(per_episode),
        per_episode=per_episode,
        decision_ms=part("decision_ms", _maybe_number),
        components={
            name: _maybe_number(
                f"{where}.components.{name}", _part(f"{where}.components", components, name)
            )
            for name in problem.components
        },
        trained_on=part("trained_on", _text),
        versus=part("versus", _versus),
        upper_bound=part("upper_bound", _maybe_number),
        by_step=_maybe_numbers(f"{where}.by_step", row.get("by_step")),
    )


# Inner parts: each says where it stands, what must stand there, and what came. -------------------


def _part(where: str, content: Any, name: str) -> Any:
    if not isinstance(content, dict):
        raise InputError(f"{where} must be a JSON object, got {_short(content)}")
    if name not in content:
        raise InputError(f"{where} must have {name}, got {_short(sorted(content))}")
    return content[name]


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise InputError(f"{where} must be a number within +-{LARGEST:g}, got {_short(value)}")
    return float(value)


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise InputError(f"{where} must be text of one line, got {_short(value)}")
    return value


def _name(where: str, value: Any) -> str:
    if not _text(where, value).strip():
        raise InputError(f"{where} must be a name, got {value!r}")
    return str(value)


def _interval(where: str, value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{where} must be null or [low, high], got {_short(value)}")
    low, high = (_number(where, bound) for bound in value)
    if low > high:
        raise InputError(f"{where} must have low <= high, got {low}, {high}")
    return low, high


def _versus(where: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    return {
        "policy": _name(f"{where}.policy", _part(where, value, "policy")),
        "mean": _number(f"{where}.mean", _part(where, value, "mean")),
        "ci95": _interval(f"{where}.ci95", _part(where, value, "ci95")),
    }


def _maybe_number(where: str, value: Any) -> float | None:
    return None if value is None else _number(where, value)


def _maybe_numbers(where: str, value: Any) -> list[float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} must be null or a list of numbers, got {_short(value)}")
    return [_number(f"{where}[{number}]", each) for number, each in enumerate(value)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
