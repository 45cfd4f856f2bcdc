"""Validation: the episodes on which the best policy of a run is chosen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.evaluation.control import score
from netllm_gym.policies.policy import Policy
from netllm_gym.problems.problem import ControlProblem
from netllm_gym.training.methods import TrainRequest
from netllm_gym.training.run import TrainingRun, run_of, validated_on


@dataclass(frozen=True)
class Validation:
    """Episodes on which the best policy is chosen; never those of a test.

    The vector environment has a row for each episode of the plan.
    """

    problem: ControlProblem
    env: Any
    plan: Sequence[PlannedEpisode]
    dataset: str

    def run(self, request: TrainRequest, trained_on: Mapping[str, Any]) -> TrainingRun:
        """Return the run in a request's folder, whose best policy is chosen here."""
        chosen_on = validated_on(self.dataset, self.env.provenance(self.plan))
        return run_of(request, self.score, {**trained_on, **chosen_on})

    def score(self, factory: Callable[[Any], Policy]) -> float:
        """Return how good a policy is; higher is better."""
        return self.problem.score(score(self.problem, factory, self.env, self.plan))


def validation_on(
    problem: ControlProblem, arguments: Mapping[str, Any], named: str | None
) -> Validation:
    """Return the validation on a named data set, else on the one that belongs to the training's.

    All other arguments of the environment that is trained in are kept.
    """
    dataset = problem.validation_dataset(arguments, named)
    case = {**arguments, problem.dataset_option: dataset, **problem.validation_case}
    plan = problem.make_env(1, **case).evaluation_plan(problem.validation_episodes)
    return Validation(problem, problem.make_env(len(plan), **case), plan, dataset)
