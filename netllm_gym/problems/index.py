"""The index: which problems there are."""

from netllm_gym.errors import InputError
from netllm_gym.problems.abr import ABR
from netllm_gym.problems.cjs import CJS
from netllm_gym.problems.problem import ControlProblem, Problem
from netllm_gym.problems.vp import VP

PROBLEMS: dict[str, Problem] = {each.name: each for each in (ABR, CJS, VP)}


def find_problem(name: str) -> Problem:
    """Return a problem by its short name."""
    if name not in PROBLEMS:
        raise InputError(f"problem must be one of {', '.join(PROBLEMS)}, got {name!r}")
    return PROBLEMS[name]


def find_control(name: str) -> ControlProblem:
    """Return a problem that is played by its short name."""
    problem = find_problem(name)
    if not isinstance(problem, ControlProblem):
        played = [each.name for each in PROBLEMS.values() if isinstance(each, ControlProblem)]
        raise InputError(
            f"problem must be one that is played, {' or '.join(played)}, got {name!r}, "
            "of which there are only predictions"
        )
    return problem
