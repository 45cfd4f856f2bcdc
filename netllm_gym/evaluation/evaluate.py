"""Policies x one case -> a table: the same for all, with intervals and provenance."""

import hashlib
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from netllm_gym.configs import check
from netllm_gym.errors import InputError
from netllm_gym.evaluation.control import PlayedCase
from netllm_gym.evaluation.prediction import PredictedCase
from netllm_gym.evaluation.provenance import code_version
from netllm_gym.evaluation.statistics import bootstrap
from netllm_gym.evaluation.tables import Table, Versus, read_table
from netllm_gym.evaluation.time_limit import OutOfTime, check_time_limit, time_limit
from netllm_gym.files import one_line, write_whole
from netllm_gym.policies.loading import LoadedPolicy, check_names, resolve_policy
from netllm_gym.problems.index import find_control, find_problem
from netllm_gym.problems.problem import PredictionProblem, Problem

# Told the policy that plays, its episodes that are done, all of them, and its decisions so far.
OnProgress = Callable[[str, int, int, int], None]
Case = PlayedCase | PredictedCase


def evaluate(
    problem: str,
    policies: Sequence[Any],
    case: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    episodes: int = 1,
    on_progress: OnProgress | None = None,
    versus: Any = None,
    time_limit_s: float | None = None,
    file: Path | None = None,
) -> Table:
    """Let every policy play every episode of a case, or predict all of its windows.

    A policy that does not fit the case, raises an error, gets stuck or takes too long has no row;
    `failures` of the table says why. If no policy is left, its error is raised.

    Args:
        problem: Short name of the problem.
        policies: Names, folders of trained policies, "package.module:Name", or classes, functions
            and objects of your own; see `policies/custom.py`.
        case: Arguments of the environment, such as traces and video, or of the windows. Parts that
            are left out are those of the problem's default case with its test data.
        seed: Of the first episode. Policies that draw depend on it; what is played does not.
        device: Where trained policies run.
        episodes: Play at least so many; a case has a number of its own. Windows have no other.
        on_progress: Told policy, episodes done, episodes in all and decisions so far, at the
            beginning and after each decision; of a row that is kept, that all is done without any.
        versus: The one of `policies`, as given or by its name, that the others are compared with.
            None takes the best of those that are known as baselines: neither learned, nor a bound,
            nor a policy of your own that is not registered.
        time_limit_s: Seconds that each policy may take. A call of compiled code is not interrupted
            before it returns.
        file: Where the table is written, as JSON, after each policy. If it holds the table of an
            unfinished run with the same arguments, the rows in it are kept; those of your own
            policies are played again, because their code may have changed.

    Raises:
        InputError: If a policy or a part of the case does not exist, two policies have the same
            name, or `versus` is not among the policies; nothing is played then.
    """
    found = find_problem(problem)
    policies = [policies] if isinstance(policies, str) else policies
    check(type(episodes) is int and episodes >= 1, "episodes", "be 1 or more", episodes)
    check_time_limit(time_limit_s)
    if not policies:
        raise InputError("policies must name at least one, got none")
    loaded = [resolve_policy(each, found, device) for each in policies]
    compared = None if versus is None else _place_of(versus, policies, [p.name for p in loaded])
    case = {**found.test_case, **(case or {})}
    opened: Case
    if not isinstance(found, PredictionProblem):
        opened = PlayedCase(find_control(problem), loaded, case, seed, episodes)
    elif episodes != 1:
        raise InputError(f"episodes must be left out for {problem}, got {episodes}")
    else:
        opened = PredictedCase(found, loaded, case)
    check_names(opened.names)
    table = Table(
        problem=problem,
        case=opened.described,
        commit=code_version(),
        rows=[],
        remarks=list(opened.remarks),
        groups=opened.groups_text,
    )
    if file is not None:
        table = _continued(table, opened, loaded, [seed, device], file)
    table = _play_missing(table, opened, time_limit_s, file, on_progress)
    compare_with = _strongest_baseline(found, table, opened, loaded)
    if compared is not None:
        compare_with = opened.names[compared]
    table = replace(
        _with_intervals(table, compare_with), unfinished=table.unfinished if table.failures else ""
    )
    _write(table, file)
    return table


def _place_of(versus: Any, policies: Sequence[Any], names: Sequence[str]) -> int:
    """Return the place of the policy that the others are compared with."""
    for place, (policy, name) in enumerate(zip(policies, names, strict=True)):
        if policy is versus or (isinstance(versus, str) and versus in (policy, name)):
            return place
    raise InputError(f"versus must be one of the policies ({', '.join(names)}), got {versus!r}")


def _continued(
    table: Table, case: Case, policies: Sequence[LoadedPolicy], others: Sequence[Any], file: Path
) -> Table:
    """Return an empty table with the rows of an unfinished run that was asked for the same."""
    asked = [table.problem, table.case, table.commit, *others, case.identity()]
    asked.append([[each.asked_for, each.sha256] for each in policies])
    key = hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()
    table = replace(table, unfinished=key)
    try:
        before = read_table(file)
    except InputError:  # there is none yet, or what is there is written over
        return table
    if before.unfinished != key:
        return table
    fixed = {name for name, policy in zip(case.names, policies, strict=True) if not policy.made_by}
    kept = [replace(row, versus=None) for row in before.rows if row.policy in fixed]
    return replace(table, rows=kept, members=before.members)


def _play_missing(
    table: Table,
    case: Case,
    limit_s: float | None,
    file: Path | None,
    on_progress: OnProgress | None,
) -> Table:
    """Let the policies play that have no row; write the table after each."""
    rows = {row.policy: row for row in table.rows}
    errors: dict[str, BaseException] = {}
    failures: dict[str, str] = {}
    for place, name in enumerate(case.names):
        done = 0

        def on_step(now_done: int, decisions: int, name: str = name) -> None:
            nonlocal done
            done = now_done
            if on_progress is not None:
                on_progress(name, done, case.num_samples, decisions)

        if name in rows:
            on_step(case.num_samples, 0)
            continue
        try:
            with time_limit(limit_s):
                on_step(0, 0)
                rows[name] = case.play(place, on_step)
        except OutOfTime as error:
            errors[name] = error
            failures[name] = f"took longer than {limit_s:g} s, {done} of {case.num_samples} done"
        except (Exception, SystemExit) as error:  # a policy that exits does not end the table
            errors[name] = error
            failures[name] = _reason(error)
        members = [way.tolist() for way in case.groups] or table.members
        in_order = [rows[each] for each in case.names if each in rows]
        table = replace(table, rows=in_order, members=members, failures=dict(failures))
        if rows:
            _write(table, file)
    if all(row.decision_ms is None for row in table.rows):  # only limits are left
        first = next(iter(errors.values()))
        if len(errors) == 1 and isinstance(first, Exception):
            raise first
        told = "; ".join(f"{name}: {why}" for name, why in failures.items())
        raise InputError(f"policies must finish, got {told}") from first
    return table


def _reason(error: BaseException) -> str:
    """Return an error of a policy as one sentence."""
    text = one_line(error)
    if not isinstance(error, InputError):
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        text = f"raised {type(error).__name__}: {text} ({where})"
    return "".join(each if each.isprintable() else "?" for each in text)


def _strongest_baseline(
    problem: Problem, table: Table, case: Case, policies: Sequence[LoadedPolicy]
) -> str | None:
    """Return the best policy that is neither learned nor a bound."""
    may_be = {
        name
        for name, policy in zip(case.names, policies, strict=True)
        if not policy.learned and policy.name != problem.bound
    }
    rows = [row for row in table.rows if row.decision_ms is not None and row.policy in may_be]
    best = max(rows, key=lambda row: problem.score(row.mean), default=None)
    return best.policy if best is not None else None


def _with_intervals(table: Table, compare_with: str | None) -> Table:
    """Return the table with intervals, and paired differences to a policy, if it has a row."""
    groups = [np.array(way, np.int64) for way in table.members]
    values = {row.policy: np.array(row.per_episode) for row in table.rows}
    other = values.get(compare_with or "")
    rows = []
    for row in table.rows:
        mine = values[row.policy]
        difference: Versus | None = None
        if other is not None and compare_with is not None and row.policy != compare_with:
            gain = bootstrap(mine - other, *groups)
            difference = {"policy": compare_with, "mean": gain.mean, "ci95": gain.ci95}
        rows.append(replace(row, ci95=bootstrap(mine, *groups).ci95, versus=difference))
    return replace(table, rows=rows)


def _write(table: Table, file: Path | None) -> None:
    if file is not None:
        write_whole(file.resolve(), table.to_json().encode())
