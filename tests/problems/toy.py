"""A control problem of another package: walk to a hidden goal; arrays are all that it shows.

An observation is (2,) float32: how far to the right the goal is (in steps), and how many steps are
left. Action 0 goes left, 1 right. An episode has `LENGTH` steps; the metric is the mean distance.
"""

import gymnasium as gym
import numpy as np
from torch import nn

from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.policies.llm.parts import ProblemParts
from netllm_gym.policies.llm.tokens import TokenLayout, TokenSpec
from netllm_gym.problems.problem import CaseOption, ControlProblem, PolicyEntry

LENGTH = 5
HERE = "tests.problems.toy"
LAYOUTS = {"compact": TokenLayout((TokenSpec("step", ("observation",)),), reads="step")}


class ToyEnv(gym.vector.VectorEnv):
    """N walkers; a `ControlEnv` without any code of this package."""

    def __init__(self, num_envs=1, field="near", autoreset_mode="Disabled"):
        self.num_envs, self.field = num_envs, field
        self.metadata = {"autoreset_mode": gym.vector.AutoresetMode.DISABLED}
        self.single_observation_space = gym.spaces.Box(-99.0, 99.0, (2,), np.float32)
        self.single_action_space = gym.spaces.Discrete(2)
        self.goal, self.left = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self.first = self.goal.copy()

    @property
    def loaded(self):
        return {"field": self.field}

    def _seen(self):
        return np.stack([self.goal, self.left], axis=1).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        for row in np.flatnonzero(options["reset_mask"]):
            self.goal[row] = self.first[row] = seed[row] % 7 - 3
            self.left[row] = LENGTH
        return self._seen(), {}

    def step(self, actions):
        moving = self.left > 0
        self.goal += np.where(moving, 1 - 2 * np.asarray(actions), 0)
        self.left -= moving
        distance = np.abs(self.goal).astype(np.float64)
        ended = moving & (self.left == 0)
        infos = {"distance": distance}
        return self._seen(), -distance * moving, ended, np.zeros_like(ended), infos

    def case(self, row):
        return {"goal": int(self.first[row]), "content": f"goal {self.first[row]}"}

    def evaluation_plan(self, at_least=1):
        return [PlannedEpisode(seed) for seed in range(max(at_least, 4))]

    def training_plan(self, seeds):
        return [PlannedEpisode(100 + seed) for seed in seeds]

    def provenance(self, plan):
        goals = sorted({f"goal {planned.seed % 7 - 3}" for planned in plan})
        return {"field": self.field, "recordings": goals, "sha256": "0" * 64}


class Walker:
    """Goes to the goal, or always right."""

    def __init__(self, name):
        self.name = name

    def reset(self, rows, seeds):
        pass

    def act(self, observations, rewards, infos):
        if self.name == "right":
            return np.ones(len(observations), np.int64)
        return (observations[:, 0] > 0).astype(np.int64)


def walker(name):
    """Return the factory of a named policy."""
    return lambda env: Walker(name)


class ToyEncoders(nn.Module):
    """The observation as one token."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(2, width)

    def fit(self, seen):
        """Nothing to learn."""

    def forward(self, inputs):
        """Return (B, T, 1, d)."""
        return {"step": self.layer(inputs["observations"]).unsqueeze(2)}


class ToyParts(ProblemParts):
    """Layout and encoders are all that the language model needs."""

    layouts = LAYOUTS

    def encoders(self, config, layout, width):
        return ToyEncoders(width)


class NoParts(ProblemParts):
    """Forgets its encoders."""

    layouts = LAYOUTS


def list_fields():
    return [("near", "made up")]


TOY = ControlProblem(
    name="toy",
    title="walking to a goal",
    env_id="Toy-v0",
    metric="distance",
    metric_unit="steps, mean over decisions",
    components=(),
    default_case={"field": "near"},
    dataset_option="field",
    validation={"near": "near"},
    test_dataset="near",
    interval_over="goal",
    policies={
        "walker": PolicyEntry(f"{HERE}:walker", by_name=True),
        "right": PolicyEntry(f"{HERE}:walker", by_name=True),
    },
    default_policies=("walker", "right"),
    case_options={"field": CaseOption(str, "Where.", title="fields", names=f"{HERE}:list_fields")},
    validation_episodes=4,
    higher_is_better=False,
    language_model=f"{HERE}:ToyParts",
    offline="netllm_gym.policies.offline.parts:ArrayParts",
)
if TOY.env_id not in gym.registry:
    gym.register(TOY.env_id, vector_entry_point=f"{HERE}:ToyEnv")
