"""The index: which problems there are, those of the package and those that others register."""

from dataclasses import replace
from importlib.metadata import entry_points

from netllm_gym.errors import InputError
from netllm_gym.problems.abr import ABR
from netllm_gym.problems.cjs import CJS
from netllm_gym.problems.problem import (
    ControlProblem,
    PolicyEntry,
    PredictionProblem,
    Problem,
    imported,
)
from netllm_gym.problems.vp import VP

ENTRY_POINTS = "netllm_gym.problems"  # group in which another package names its rows
POLICY_ENTRY_POINTS = "netllm_gym.policies"  # and its policies, each as PROBLEM.NAME

PROBLEMS: dict[str, Problem] = {each.name: each for each in (ABR, CJS, VP)}
_is_complete = False  # whether the rows of other packages were read


def register_problem(problem: Problem) -> None:
    """Add a problem to the index, so that every command and function knows it by its name.

    A package that is installed needs no call: it names its row in the entry-point group
    `netllm_gym.problems`, for example `cc = "congestion_control.problem:CC"`.

    Raises:
        InputError: If another problem has the name.
    """
    known = PROBLEMS.get(problem.name)
    if known is None:
        PROBLEMS[problem.name] = problem
    elif replace(known, policies=problem.policies) != problem:  # policies may have been added
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
    """Return all problems by their short names."""
    global _is_complete
    if not _is_complete:
        _is_complete = True
        for entry in entry_points(group=ENTRY_POINTS):
            found = imported(entry.value)
            if not isinstance(found, Problem):
                raise InputError(f"entry point {entry.name} must name a Problem, got {found!r:.80}")
            register_problem(found)
        for entry in entry_points(group=POLICY_ENTRY_POINTS):
            problem, _, name = entry.name.partition(".")
            if problem in PROBLEMS:
                add_policy(PROBLEMS[problem], name, PolicyEntry(entry.value, is_custom=True))
    return PROBLEMS


def find_problem(name: str) -> Problem:
    """Return a problem by its short name."""
    known = problems()
    if name not in known:
        raise InputError(f"problem must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def find_control(name: str) -> ControlProblem:
    """Return a control problem, in which a policy acts in an environment, by its short name."""
    problem = find_problem(name)
    if not isinstance(problem, ControlProblem):
        control = [each.name for each in problems().values() if isinstance(each, ControlProblem)]
        raise InputError(
            f"problem must be a control problem, {' or '.join(control)}, got {name!r}, "
            "which has predictions only"
        )
    return problem


def find_prediction(name: str) -> PredictionProblem:
    """Return a prediction problem by its short name."""
    problem = find_problem(name)
    if not isinstance(problem, PredictionProblem):
        raise InputError(f"problem must be one of predictions, got {name!r}, which has actions")
    return problem
