"""The index of all problems: those of this package and those that other packages register."""

from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from netllm_gym.errors import InputError, nearest
from netllm_gym.files import one_line
from netllm_gym.problems.abr import ABR
from netllm_gym.problems.cjs import CJS
from netllm_gym.problems.problem import ControlProblem, PolicyEntry, PredictionProblem, Problem
from netllm_gym.problems.vp import VP

ENTRY_POINTS = "netllm_gym.problems"  # group in which other packages name their problems
POLICY_ENTRY_POINTS = "netllm_gym.policies"  # and their policies, each as PROBLEM.NAME

P = TypeVar("P", bound=Problem)

PROBLEMS: dict[str, Problem] = {each.name: each for each in (ABR, CJS, VP)}


def register_problem(problem: Problem) -> None:
    """Add a problem to the index, so that every function of this process knows it by its name.

    A package that is to be known in every process, and so to the commands, names its problem in
    the entry-point group `netllm_gym.problems`, for example `cc = "congestion_control.problem:CC"`.
    The name of the entry point is that of the problem.

    Raises:
        InputError: If it is not a `Problem`, or another problem has its name.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"problem must be a ControlProblem or PredictionProblem, got {problem!r}")
    known = PROBLEMS.setdefault(problem.name, problem)
    if replace(known, policies=problem.policies) != problem:  # policies may have been added
        raise InputError(f"problem must have a name that is not taken, got {problem.name!r}")


def add_policy(problem: Problem, name: str, entry: PolicyEntry) -> None:
    """Add a policy to a problem's table of names; `register_policy` is what users call.

    Raises:
        InputError: If another policy has the name, other than one that was registered before.
    """
    known = problem.policies.get(name)
    if known is not None and not known.is_custom:
        raise InputError(f"policy must have a name that {problem.name} does not have, got {name!r}")
    PROBLEMS[problem.name] = replace(problem, policies={**problem.policies, name: entry})


def problems() -> dict[str, Problem]:
    """Return all problems by their short names; those that cannot be imported are left out."""
    _register_entry_points()
    return PROBLEMS


def find_problem(name: str) -> Problem:
    """Return a problem by its short name; raise `InputError` if there is none, or it is broken."""
    return _find(name, Problem)


def find_control(name: str) -> ControlProblem:
    """Return a control problem, in which a policy acts in an environment, by its short name."""
    return _find(name, ControlProblem, "control", "predictions only")


def find_prediction(name: str) -> PredictionProblem:
    """Return a prediction problem by its short name."""
    return _find(name, PredictionProblem, "prediction", "actions")


def _find(name: str, kind: type[P], words: str = "", others_have: str = "") -> P:
    broken = {} if name in PROBLEMS else _register_entry_points()
    if name in broken:
        raise InputError(broken[name])
    names = [each.name for each in PROBLEMS.values() if isinstance(each, kind)]
    if name not in PROBLEMS:
        hint = nearest(name, names)
        raise InputError(f"problem must be one of {', '.join(names)}, got {name!r}{hint}")
    problem = PROBLEMS[name]
    if not isinstance(problem, kind):
        raise InputError(
            f"problem must be a {words} problem, {' or '.join(names)}, got {name!r}, "
            f"which has {others_have}"
        )
    return problem


@cache
def _register_entry_points() -> dict[str, str]:
    """Register what installed packages offer; return why some problems could not be, by name."""
    offered = entry_points(group=ENTRY_POINTS)
    broken = {entry.name: why for entry in offered if (why := _register_entry_point(entry))}
    for entry in entry_points(group=POLICY_ENTRY_POINTS):
        problem, _, name = entry.name.partition(".")
        if problem in PROBLEMS and name:
            add_policy(PROBLEMS[problem], name, PolicyEntry(entry.value, is_custom=True))
    return broken


def _register_entry_point(entry: EntryPoint) -> str:
    """Register the problem that an entry point names; return why that failed, empty if not."""
    try:
        problem = entry.load()
        register_problem(problem)
        if problem.name != entry.name:
            raise InputError(f"the name {problem.name!r} there")
    except Exception as error:  # anything may go wrong in another package
        package = entry.dist.name if entry.dist is not None else entry.module
        return (
            f"problem {entry.name} must be offered as {entry.value} by the package {package}, "
            f"got {one_line(error)}"
        )
    return ""
