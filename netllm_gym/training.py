"""Train a policy on a pool: which episodes, which validation, and what is remembered of both."""

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from netllm_gym.data.pool import ExperiencePool
from netllm_gym.data.windows import PaddedEpisodes
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.evaluation import score
from netllm_gym.policies.policy import Policy
from netllm_gym.problems import ControlProblem, find_control

if TYPE_CHECKING:  # torch is loaded when training begins, not when this is imported
    from netllm_gym.policies.llm.config import LLMConfig, TrainConfig
    from netllm_gym.policies.offline.config import OfflineSchedule
    from netllm_gym.policies.returns import ReturnSpec
    from netllm_gym.policies.runs import TrainingRun, TrainResult


@dataclass(frozen=True)
class Validation:
    """Episodes on which the best policy is chosen; never those of a test."""

    row: ControlProblem
    env: Any
    plan: Sequence[PlannedEpisode]
    worlds: str

    def run(
        self,
        out: Path | str,
        trained_on: Mapping[str, Any],
        on_progress: Callable[[Mapping[str, Any]], None] | None,
    ) -> "TrainingRun":
        """Return the run in `out`, new or gone on with, whose best policy is chosen here."""
        from netllm_gym.policies.runs import TrainingRun

        return TrainingRun(
            Path(out),
            validate=self.score,
            trained_on={**trained_on, **self.provenance()},
            progress=on_progress,
            resume=True,
        )

    def score(self, factory: Callable[[Any], Policy]) -> float:
        """Return how good a policy is; higher is better."""
        return self.row.goodness(score(self.row, factory, self.env, self.plan))

    def provenance(self) -> dict[str, Any]:
        """Say on what the best policy is chosen, as JSON."""
        chosen_on = self.env.provenance(self.plan)
        return {
            "validated_on": self.worlds,
            "validation_recordings": chosen_on["recordings"],
            "validation_sha256": chosen_on["sha256"],
        }


def train(
    problem: str,
    pool: Path | str,
    out: Path | str,
    config: "LLMConfig | None" = None,
    schedule: "TrainConfig | None" = None,
    policies: Sequence[str] | None = None,
    validate_on: str | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> "TrainResult":
    """Adapt a language model to a pool's episodes; run again after an interruption, it goes on.

    Args:
        problem: Short name.
        pool: Folder of the experience pool.
        out: Folder of the run; `out/best` and `out/last` are policies that `load_policy` reads.
        config: The policy; left out, one with a `tiny` backbone.
        schedule: How it is trained.
        policies: Whose episodes to learn from; None takes those of the highest mean return, or all
            where an expert was asked.
        validate_on: Worlds (traces, workload) to choose the best policy on; None takes those that
            belong to the pool's.
        on_progress: Told the metrics of each update and each validation.

    Raises:
        InputError: If the pool, the validation or an earlier run in `out` does not fit.
    """
    opened = ExperiencePool.load(pool, problem)
    from netllm_gym.policies.llm.config import LLMConfig, TrainConfig
    from netllm_gym.policies.llm.parts import parts_of
    from netllm_gym.policies.llm.train import train_llm

    policies = policies or default_teachers(opened)
    config = config or LLMConfig(returns=default_returns(opened, policies))
    lesson = _lesson(opened, policies, config.returns, validate_on)
    config = replace(config, problem=problem)
    config = parts_of(problem).sized(config, lesson.validation.env, lesson.episodes)
    run = lesson.validation.run(out, lesson.trained_on, on_progress)
    return train_llm(lesson.episodes, config, schedule or TrainConfig(), run)


def train_offline(
    problem: str,
    method: str,
    pool: Path | str,
    out: Path | str,
    schedule: "OfflineSchedule | None" = None,
    policies: Sequence[str] | None = None,
    returns: "ReturnSpec | None" = None,
    validate_on: str | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> "TrainResult":
    """Learn from a pool's episodes by a method of d3rlpy; run again, it goes on.

    Args:
        problem: Short name.
        method: "bc", "cql" or "dt".
        pool: Folder of the experience pool.
        out: Folder of the run; `out/best` and `out/last` are policies that `load_policy` reads.
        schedule: How it is trained; its seed is also that of the initial weights.
        policies: Whose episodes to learn from; None takes those of the highest mean return, or all
            where an expert was asked.
        returns: What "dt" is told; None the return still to come, and to ask for the 90 % quantile
            of the teachers' episodes. The others are told nothing.
        validate_on: Worlds (traces, workload) to choose the best policy on; None takes those that
            belong to the pool's.
        on_progress: Told the metrics of each update and each validation.

    Raises:
        InputError: If the pool, the validation or an earlier run in `out` does not fit.
    """
    opened = ExperiencePool.load(pool, problem)
    from netllm_gym.policies.offline.config import OfflineConfig, OfflineSchedule
    from netllm_gym.policies.offline.parts import parts_of
    from netllm_gym.policies.offline.train import train_offline as learn
    from netllm_gym.policies.returns import ReturnSpec

    schedule = schedule or OfflineSchedule.of(method)
    if method != "dt" and returns is not None:
        raise InputError(f"returns must be left out for {method}, which is told none")
    returns = returns or ReturnSpec(kind="return_to_go" if method == "dt" else "none")
    lesson = _lesson(opened, policies or default_teachers(opened), returns, validate_on)
    sizes = parts_of(problem).sizes(lesson.validation.env, lesson.episodes.mask.shape[1])
    config = OfflineConfig(
        problem=problem, method=method, returns=returns, seed=schedule.seed, **sizes._asdict()
    )
    run = lesson.validation.run(out, lesson.trained_on, on_progress)
    return learn(lesson.episodes, config, schedule, run)


class _Lesson(NamedTuple):
    """What is learned from, and what on."""

    episodes: PaddedEpisodes
    validation: Validation
    trained_on: dict[str, Any]


def _lesson(
    pool: ExperiencePool,
    policies: Sequence[str],
    returns: "ReturnSpec",
    validate_on: str | None,
) -> _Lesson:
    """Return a pool's episodes by some teachers, and the validation."""
    row = find_control(pool.problem)
    _check_baseline(returns, policies, pool)
    episodes = PaddedEpisodes.from_pool(pool, policies)
    _check_env_spec(pool, row)
    validation = validation_on(row, pool.env_spec["arguments"], validate_on)
    return _Lesson(episodes, validation, _provenance(pool, policies))


def best_teacher(pool: ExperiencePool, among: Sequence[str] | None = None) -> tuple[str]:
    """Return the policy of a pool with the highest mean return.

    Raises:
        InputError: If none of `among` is in the pool.
    """
    means = {
        name: teacher.mean_return
        for name, teacher in pool.summary().policies.items()
        if among is None or name in among
    }
    if not means:
        raise InputError(
            f"policies must be in the pool ({', '.join(pool.policies)}), "
            f"got {', '.join(among or ())}"
        )
    return (max(means, key=lambda name: means[name]),)


def default_teachers(pool: ExperiencePool) -> Sequence[str]:
    """Return whose episodes to learn from: an expert's answers are as good in anybody's."""
    return pool.policies if "expert" in pool.plan else best_teacher(pool)


def default_returns(pool: ExperiencePool, policies: Sequence[str] | None = None) -> "ReturnSpec":
    """Condition on nothing with one teacher, with several on the gain over the best of them.

    An expert's answers are one teacher's.
    """
    from netllm_gym.policies.returns import ReturnSpec

    if len(policies or ()) < 2 or "expert" in pool.plan:
        return ReturnSpec(kind="none")
    return ReturnSpec(kind="baseline", baseline=best_teacher(pool, policies)[0])


def _check_env_spec(pool: ExperiencePool, row: ControlProblem) -> None:
    """Refuse a pool that does not say, as `collect` does, what was played."""
    spec = pool.env_spec
    if missing := {"arguments", "worlds"} - spec.keys():
        raise InputError(
            f"env_spec of {pool.folder} must hold {' and '.join(sorted(missing))}, "
            "as `collect` writes them, got none"
        )
    rules = {
        "id": (spec.get("id") == row.env_id, f"be {row.env_id}"),
        "arguments": (
            isinstance(spec["arguments"], dict) and spec["arguments"].keys() <= {*row.case_options},
            f"be an object with {', '.join(row.case_options)}",
        ),
        "worlds": (
            isinstance(spec["worlds"], dict) and _are_names(spec["worlds"].get("recordings")),
            "be an object with recordings, which are names",
        ),
        "teachers_recordings": (_are_names(spec.get("teachers_recordings", [])), "be names"),
    }
    for name, (holds, rule) in rules.items():
        if not holds:
            raise InputError(
                f"{name} in env_spec of {pool.folder} must {rule}, "
                f"got {reprlib.repr(spec.get(name))}"
            )


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _check_baseline(returns: "ReturnSpec", policies: Sequence[str], pool: ExperiencePool) -> None:
    """Refuse a baseline that played in the pool but is left out of the training."""
    name = returns.baseline
    if returns.kind == "baseline" and name in pool.policies and name not in policies:
        raise InputError(
            f"baseline must be among the teachers ({', '.join(policies)}), got {name!r}, "
            "which is in the pool: name it in --policies too"
        )


def _provenance(pool: ExperiencePool, policies: Sequence[str]) -> dict[str, Any]:
    """Return what is learned from, as JSON; a run is resumed only with an equal one."""
    worlds = pool.env_spec["worlds"]
    # What a teacher saw in its own training reaches whoever imitates it.
    recordings = {*worlds["recordings"], *pool.env_spec.get("teachers_recordings", ())}
    return {
        **worlds,
        "recordings": sorted(recordings),
        "policies": list(policies),
        "plan": pool.plan,
        "pool_sha256": pool.sha256,
    }


def validation_on(
    row: ControlProblem, arguments: Mapping[str, Any], named: str | None
) -> Validation:
    """Return the validation worlds that are named, else those that belong to what is trained on."""
    named = row.validation_worlds(arguments, named)
    case = {**arguments, row.worlds: named, **row.validation_case}
    probe = row.make_env(1, **case)
    plan = probe.evaluation_plan(row.validation_episodes)
    return Validation(row, row.make_env(len(plan), **case), plan, named)
