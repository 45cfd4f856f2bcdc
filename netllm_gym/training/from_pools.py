"""Train a policy on a pool: which episodes, which validation, and what is remembered of both."""

import json
import reprlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.evaluation.evaluate import score
from netllm_gym.policies.policy import Policy
from netllm_gym.pools.pool import ExperiencePool
from netllm_gym.pools.windows import PaddedEpisodes
from netllm_gym.problems.index import find_control
from netllm_gym.problems.problem import ControlProblem

if TYPE_CHECKING:  # torch is loaded when training begins, not when this is imported
    from netllm_gym.policies.llm.config import LLMConfig
    from netllm_gym.policies.offline.config import OfflineSchedule
    from netllm_gym.policies.returns import ReturnSpec
    from netllm_gym.training.config import TrainConfig
    from netllm_gym.training.run import TrainingRun, TrainResult

PoolsLike = Path | str | Sequence[Path | str]


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
        from netllm_gym.training.run import TrainingRun

        return TrainingRun(
            Path(out),
            validate=self.score,
            trained_on={**trained_on, **self.provenance()},
            progress=on_progress,
            resume=True,
        )

    def score(self, factory: Callable[[Any], Policy]) -> float:
        """Return how good a policy is; higher is better."""
        return self.row.score(score(self.row, factory, self.env, self.plan))

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
    pools: PoolsLike,
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
        pools: Folder of the experience pool, or of several, whose actions mean the same.
        out: Folder of the run; `out/best` and `out/last` are policies that `load_policy` reads.
        config: The policy; left out, one with a `tiny` backbone.
        schedule: How it is trained.
        policies: Whose episodes to learn from; None takes those of the highest mean return, or all
            where an expert was asked and is imitated. To be named where only some pools have one.
        validate_on: Data set (traces, workload) to choose the best policy on; None takes those that
            belong to the first pool's. All else is as in the first pool.
        on_progress: Told the metrics of each update and each validation.

    Raises:
        InputError: If the pool, the validation or an earlier run in `out` does not fit.
    """
    opened = open_pools(problem, pools)
    from netllm_gym.policies.llm.config import LLMConfig
    from netllm_gym.policies.llm.parts import parts_of
    from netllm_gym.training.config import TrainConfig
    from netllm_gym.training.llm import train_llm

    schedule = schedule or TrainConfig()
    imitates = schedule.objective == "imitate"
    policies = policies or default_teachers(opened, imitates)
    config = config or LLMConfig(returns=default_returns(opened, policies))
    config = replace(config, problem=problem)
    data = _training_data(opened, policies, config.returns, validate_on, imitates)
    config = parts_of(problem).sized(config, data.validation.env, data.episodes)
    run = data.validation.run(out, data.trained_on, on_progress)
    return train_llm(data.episodes, config, schedule, run)


def train_offline(
    problem: str,
    method: str,
    pools: PoolsLike,
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
        pools: Folder of the experience pool, or of several, whose actions mean the same.
        out: Folder of the run; `out/best` and `out/last` are policies that `load_policy` reads.
        schedule: How it is trained; its seed is also that of the initial weights.
        policies: Whose episodes to learn from; None takes those of the highest mean return, for
            "bc" all where an expert was asked.
        returns: What "dt" is told; None the return still to come, and to ask for the 90 % quantile
            of the teachers' episodes. The others are told nothing.
        validate_on: Data set (traces, workload) to choose the best policy on; None takes those that
            belong to the first pool's. All else is as in the first pool.
        on_progress: Told the metrics of each update and each validation.

    Raises:
        InputError: If the pool, the validation or an earlier run in `out` does not fit.
    """
    opened = open_pools(problem, pools)
    from netllm_gym.policies.offline.config import OfflineConfig, OfflineSchedule
    from netllm_gym.policies.offline.parts import parts_of
    from netllm_gym.policies.returns import ReturnSpec
    from netllm_gym.training.offline import train_offline as learn

    schedule = schedule or OfflineSchedule.of(method)
    if method != "dt" and returns is not None:
        raise InputError(f"returns must be left out for {method}, which is told none")
    returns = returns or ReturnSpec(kind="return_to_go" if method == "dt" else "none")
    clones = method == "bc"
    policies = policies or default_teachers(opened, clones)
    data = _training_data(opened, policies, returns, validate_on, clones)
    sizes = parts_of(problem).sizes(data.validation.env, data.episodes.mask.shape[1])
    config = OfflineConfig(
        problem=problem, method=method, returns=returns, seed=schedule.seed, **sizes._asdict()
    )
    run = data.validation.run(out, data.trained_on, on_progress)
    return learn(data.episodes, config, schedule, run)


class TrainingData(NamedTuple):
    """What is learned from, and what on."""

    episodes: PaddedEpisodes
    validation: Validation
    trained_on: dict[str, Any]


def open_pools(problem: str, pools: PoolsLike) -> list[ExperiencePool]:
    """Return the pools in the folders.

    Raises:
        InputError: If one cannot be learned from, or is named twice.
    """
    folders = [Path(each) for each in ([pools] if isinstance(pools, Path | str) else pools)]
    opened = [ExperiencePool.load(folder, problem) for folder in folders]
    if not opened or len({pool.sha256 for pool in opened}) < len(opened):
        names = ", ".join(map(str, folders)) or "none"
        raise InputError(f"pools must be one or more, all different, got {names}")
    return opened


def _training_data(
    pools: Sequence[ExperiencePool],
    policies: Sequence[str],
    returns: "ReturnSpec",
    validate_on: str | None,
    imitates: bool,
) -> TrainingData:
    """Return the episodes of some policies, and the validation."""
    row = find_control(pools[0].problem)
    asked = [pool.has_expert for pool in pools] if imitates else []
    if any(asked) and returns.kind != "none":
        raise InputError(
            "returns must be none where an expert is imitated, whose returns nobody knows, "
            f"got {returns.kind!r}"
        )
    _check_baseline(returns, policies, pools)
    episodes = PaddedEpisodes.from_pools(pools, policies)
    for pool in pools:
        _check_env_spec(pool, row)
    _check_alike(pools, row)
    validation = validation_on(row, pools[0].env_spec["arguments"], validate_on)
    return TrainingData(episodes, validation, _provenance(pools, policies))


def best_teacher(pools: Sequence[ExperiencePool], among: Sequence[str] | None = None) -> tuple[str]:
    """Return the policy of some pools with the highest mean return.

    Raises:
        InputError: If none of `among` is in a pool.
    """
    totals: dict[str, FloatArray] = defaultdict(lambda: np.zeros(2))  # return, episodes
    for pool in pools:
        for name, told in pool.summary().policies.items():
            totals[name] += (told.mean_return * told.num_episodes, told.num_episodes)
    found = {name: each[0] / each[1] for name, each in totals.items() if not among or name in among}
    if not found:
        raise InputError(
            f"policies must be in the pool ({', '.join(sorted(totals))}), "
            f"got {', '.join(among or ())}"
        )
    return (max(found, key=lambda name: found[name]),)


def default_teachers(pools: Sequence[ExperiencePool], imitates: bool) -> Sequence[str]:
    """Return whose episodes to learn from: the best teacher's, or all where an expert was asked.

    Args:
        pools: What is learned from.
        imitates: Whether an expert's answers are learned, which are as good in anybody's episodes.

    Raises:
        InputError: If an expert was asked in some pools only: all would be too many of the others.
    """
    asked = {pool.has_expert for pool in pools} if imitates else {False}
    if len(asked) > 1:
        raise InputError(
            "policies must be named for pools of which some have an expert's answers, got none"
        )
    if True in asked:
        return sorted({name for pool in pools for name in pool.policies})
    return best_teacher(pools)


def default_returns(
    pools: Sequence[ExperiencePool], policies: Sequence[str] | None = None
) -> "ReturnSpec":
    """Condition on nothing with one teacher, with several on the gain over the best of them.

    On nothing, too, where an expert was asked, whose answers are one teacher's, and with several
    pools, where an episode has no like to compare it with.
    """
    from netllm_gym.policies.returns import ReturnSpec

    if len(policies or ()) < 2 or len(pools) > 1 or pools[0].has_expert:
        return ReturnSpec(kind="none")
    return ReturnSpec(kind="baseline", baseline=best_teacher(pools, policies)[0])


def _check_alike(pools: Sequence[ExperiencePool], row: ControlProblem) -> None:
    """Refuse pools of videos with different ladders, where a rung is not the same bitrate."""
    ladders = []
    cases = {json.dumps(pool.env_spec["arguments"]): None for pool in pools}
    for arguments in cases if len(cases) > 1 else ():  # one has nothing to differ from
        video = getattr(row.make_env(1, **json.loads(arguments)), "video", None)
        ladders.append([] if video is None else [f"{each:g}" for each in video.ladder_mbps])
    for ladder in ladders[1:]:
        if ladder != ladders[0]:
            raise InputError(
                "pools must be of one ladder, "
                f"got {', '.join(ladders[0])} and {', '.join(ladder)} Mbit/s"
            )


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


def _check_baseline(
    returns: "ReturnSpec", policies: Sequence[str], pools: Sequence[ExperiencePool]
) -> None:
    """Refuse a baseline that is left out of the training, or whose episodes have no like."""
    name = returns.baseline
    if returns.kind == "baseline" and len(pools) > 1:
        # An episode's seed finds its like, and the same seed plays other things in another pool.
        raise InputError(f"returns must be none or return_to_go for several pools, got {name!r}")
    if returns.kind == "baseline" and name in pools[0].policies and name not in policies:
        raise InputError(
            f"baseline must be among the teachers ({', '.join(policies)}), got {name!r}, "
            "which is in the pool: name it in --policies too"
        )


def _provenance(pools: Sequence[ExperiencePool], policies: Sequence[str]) -> dict[str, Any]:
    """Return what is learned from, as JSON; a run is resumed only with an equal one."""
    recordings, worlds = set[str](), defaultdict[str, list[str]](list)
    for spec in (pool.env_spec for pool in pools):
        # What a teacher saw in its own training reaches whoever imitates it.
        recordings |= {*spec["worlds"]["recordings"], *spec.get("teachers_recordings", ())}
        for name, value in spec["worlds"].items():
            if name != "recordings" and value not in worlds[name]:
                worlds[name].append(value)
    plans = [pool.plan for pool in pools]
    return {
        **{name: " + ".join(map(str, values)) for name, values in worlds.items()},
        "recordings": sorted(recordings),
        "policies": list(policies),
        "plan": plans[0] if len(plans) == 1 else plans,
        "pool_sha256": " + ".join(pool.sha256 for pool in pools),
    }


def validation_on(
    row: ControlProblem, arguments: Mapping[str, Any], named: str | None
) -> Validation:
    """Return the validation worlds that are named, else those that belong to what is trained on."""
    named = row.validation_dataset(arguments, named)
    case = {**arguments, row.dataset_option: named, **row.validation_case}
    probe = row.make_env(1, **case)
    plan = probe.evaluation_plan(row.validation_episodes)
    return Validation(row, row.make_env(len(plan), **case), plan, named)
