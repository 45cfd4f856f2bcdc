"""What policies or predictors achieved on a case, before it becomes a table."""

from collections.abc import Callable
from dataclasses import dataclass, field

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.policies.loading import LoadedPolicy

OnEpisode = Callable[[str, int, int], None]  # told policy, episodes done and episodes in all


@dataclass(frozen=True, kw_only=True)
class PolicyResult:
    """What one policy, predictor or limit achieved on a case.

    Attributes:
        policy: What was evaluated.
        name: What the built policy calls itself.
        values: (E,) metric of each episode, or window.
        decision_ms: Wall time per decision; None of a limit, which decides nothing.
        components: Means of what is reported beside the metric; None of a limit.
        trained_on: What it was trained on, in words.
        upper_bound: Mean that no policy can exceed, if the policy certifies one.
        by_step: (F,) mean metric at each future sample, of a predictor.
    """

    policy: LoadedPolicy
    name: str
    values: FloatArray
    decision_ms: float | None
    components: dict[str, float | None]
    trained_on: str
    upper_bound: float | None = None
    by_step: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class CaseResults:
    """What all policies achieved on a case.

    Attributes:
        results: Of each policy.
        groups: (E,) each: the number of each episode's group, for every way in which episodes are
            not independent.
        case: The parts of the case, as text.
        remarks: What was wrong with the data and was repaired or left out, a sentence each.
        groups_text: In words, what the groups are; empty for what the problem says.
    """

    results: list[PolicyResult]
    groups: tuple[IntArray, ...]
    case: dict[str, str]
    remarks: list[str] = field(default_factory=list)
    groups_text: str = ""


class Counter:
    """Turns "k more episodes" into "done of all" for one policy."""

    def __init__(self, policy: str, total: int, on_episode: OnEpisode | None) -> None:
        self._policy, self._total, self._on_episode = policy, total, on_episode
        self._done = 0

    def __call__(self, ended: int) -> None:
        """Count episodes that ended."""
        self._done += ended
        if self._on_episode is not None:
            self._on_episode(self._policy, self._done, self._total)
