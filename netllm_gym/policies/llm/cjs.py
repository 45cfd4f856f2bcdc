"""CJS's parts of the language-model policy: its tokens, encoders, heads and two-part action.

In the layout `compact`, a decision is a set of tokens, one for each thing that may be chosen, and
then one token for the executors. The first token of the set means "no stage" and carries the return
and the whole cluster; the others are the schedulable stages, each the sum of its own embedding, its
job's and the cluster's. The head points at one of them. The token of the executors is that of the
chosen stage, and numbers of executors are scored as shares of the cluster, so that no layer depends
on its size.

Training knows the teacher's stage and puts all tokens in one sequence; acting runs the set first
and then the executors' token with a cache. The observation is the whole state, so a decision
attends to its own tokens only.

NetLLM differs: its heads have a fixed width (100 stages and 50 executors), it runs the whole
context twice, has tokens of past decisions and an order among stages.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from netllm_gym.arrays import IntArray
from netllm_gym.configs import check
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.cjs import check_is_cluster
from netllm_gym.policies.cjs_graph import (
    NUM_JOB,
    NUM_ROW,
    NUM_STAGE,
    Choices,
    ClusterGraph,
    Level,
    choices_of,
    graph_of,
)
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.parts import Batch, Pick, ProblemParts, TokenModel
from netllm_gym.policies.llm.tokens import TokenLayout, TokenSpec
from netllm_gym.policies.normal import Normal
from netllm_gym.pools.windows import PaddedEpisodes

CHOICE, EXECUTORS = "choice", "executors"
LAYOUTS = {
    "compact": TokenLayout(
        (TokenSpec(CHOICE, ("stage", "return"), count=0), TokenSpec(EXECUTORS, ("stage",))),
        reads=CHOICE,
    ),
}
SAMPLE_ROWS = 4096  # decisions of a pool from which the spread of features is learned
LEAST_ROWS = 48  # of a forward pass that is cut off to save padding
NUM_SHARES = 9  # features of a number of executors


class Encoded(NamedTuple):
    """A batch of clusters as vectors."""

    stage: Tensor  # (M, NUM_STAGE + 3F) its features, its embedding, its job's and its cluster's
    row: Tensor  # (N, NUM_ROW + F)


class Logits(NamedTuple):
    """Of the two parts of a decision; -inf where a choice is not allowed."""

    choice: Tensor  # (N, 1 + n)
    executors: Tensor  # (N, K) for 1 .. K executors


class CJSEncoders(nn.Module):
    """Embeds clusters: messages run from children to parents, stages are gathered to jobs."""

    def __init__(self, config: LLMConfig, layout: TokenLayout, width: int) -> None:
        super().__init__()
        if config.context_steps not in (None, 1) or config.max_steps != 1:
            steps = config.context_steps if config.max_steps == 1 else config.max_steps
            raise InputError(
                f"context_steps and max_steps must be 1 for cjs, where a decision sees the whole "
                f"state and nothing before, got {steps}"
            )
        size = config.feature_dim // 2
        check(size >= 1, "feature_dim", "be at least 2 for cjs", config.feature_dim)
        sizes = {"stage": NUM_STAGE, "job": NUM_JOB, "row": NUM_ROW}
        self.normals = nn.ModuleDict({name: Normal(count) for name, count in sizes.items()})
        self.enter = _two_layers(NUM_STAGE, size)
        self.message = _two_layers(size, size)
        self.update = _two_layers(size, size)
        self.to_job = _two_layers(size, size)
        self.job = _two_layers(size + NUM_JOB, size)
        self.to_row = _two_layers(size, size)
        self.row = _two_layers(size + NUM_ROW, size)
        whole = NUM_STAGE + 3 * size
        self.stage_token = nn.Linear(whole, width)
        self.none_token = nn.Linear(NUM_ROW + size, width)
        self.return_token = nn.Linear(1, width)
        self.executors_token = nn.Linear(whole, width)

    def fit(self, seen: ClusterView) -> None:
        """Learn the mean and spread of the features from training decisions."""
        every = max(1, len(seen) // SAMPLE_ROWS)
        graph = graph_of(seen.take(np.arange(0, len(seen), every)))
        for name, normal in self.normals.items():
            assert isinstance(normal, Normal)
            normal.fit(getattr(graph, name))

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return name -> (N, 1, count, d), all tokens of decisions whose stage is known."""
        encoded = self.encode(inputs["graph"])
        return {
            CHOICE: self.choices(encoded, inputs),
            EXECUTORS: self.executors(encoded, inputs["choices"], inputs["chosen"]),
        }

    def encode(self, graph: ClusterGraph) -> Encoded:
        """Run the graphs."""
        stage, job, row = (each(getattr(graph, name)) for name, each in self.normals.items())
        state = self.enter(stage)  # (M, F)
        for level in graph.levels:
            told = self.message(state.index_select(0, level.children))
            total = told.new_zeros(len(level.parents), told.shape[1])
            total = total.index_add(0, level.slots, told)
            state = state.index_add(0, level.parents, self.update(total))
        of_job = _mean(self.to_job(state), graph.job_of, len(job))
        of_job = self.job(torch.cat([of_job, job], dim=1))  # (J, F)
        of_row = _mean(self.to_row(of_job), graph.row_of, len(row))
        of_row = self.row(torch.cat([of_row, row], dim=1))  # (N, F)
        above = torch.cat([of_job, of_row.index_select(0, graph.row_of)], dim=1)  # (J, 2F)
        return Encoded(
            stage=torch.cat([stage, state, above.index_select(0, graph.job_of)], dim=1),
            row=torch.cat([row, of_row], dim=1),
        )

    def choices(self, encoded: Encoded, inputs: Mapping[str, Any]) -> Tensor:
        """Return (N, 1, 1 + n, d)."""
        choices = inputs["choices"]
        none = self.none_token(encoded.row) + self.return_token(inputs["returns"])  # (N, d)
        places = choices.exists[:, 1:]  # (N, n)
        stages = none.new_zeros(*places.shape, none.shape[1])
        # Only stages that exist are embedded: padding would often be most of them.
        found = choices.stage[:, 1:][places]
        stages[places] = self.stage_token(encoded.stage.index_select(0, found))
        return torch.cat([none.unsqueeze(1), stages], dim=1).unsqueeze(1)

    def executors(self, encoded: Encoded, choices: Choices, chosen: Tensor) -> Tensor:
        """Return (N, 1, 1, d), 0 where no stage was chosen."""
        stage = choices.stage.gather(1, chosen.unsqueeze(1)).squeeze(1)  # (N,)
        is_one = chosen > 0
        token = self.none_token.weight.new_zeros(len(chosen), self.none_token.out_features)
        token[is_one] = self.executors_token(encoded.stage.index_select(0, stage[is_one]))
        return token.unsqueeze(1).unsqueeze(1)


class CJSHead(nn.Module):
    """Points at a choice, then scores each number of executors by the shares that it means."""

    def __init__(self, config: LLMConfig, layout: TokenLayout, width: int) -> None:
        super().__init__()
        size = config.feature_dim // 2
        self.pointer = nn.Linear(width, 1)
        self.none = nn.Linear(width, 1)
        self.chosen = nn.Linear(width, size)
        self.shares = nn.Linear(NUM_SHARES, size, bias=False)
        self.score = nn.Sequential(nn.GELU(), nn.Linear(size, size), nn.GELU(), nn.Linear(size, 1))

    def forward(self, hidden: Mapping[str, Tensor], inputs: Mapping[str, Any]) -> Logits:
        """Return the logits of both parts, as if the stage were known."""
        return Logits(
            self.choices(hidden[CHOICE], inputs["choices"]),
            self.executors(hidden[EXECUTORS], inputs, inputs["chosen"]),
        )

    def choices(self, hidden: Tensor, choices: Choices) -> Tensor:
        """Return (N, 1 + n) logits of (N, 1, 1 + n, d)."""
        read = hidden[:, 0]
        logits = torch.cat([self.none(read[:, :1]), self.pointer(read[:, 1:])], dim=1).squeeze(-1)
        return logits.masked_fill(~choices.allowed, -torch.inf)

    def executors(self, hidden: Tensor, inputs: Mapping[str, Any], chosen: Tensor) -> Tensor:
        """Return (N, K) logits of (N, 1, 1, d), K the most that any row may commit."""
        choices, at = inputs["choices"], chosen.unsqueeze(1)
        limit, demand, supply, adds = (
            each.gather(1, at)
            for each in (choices.limit, choices.demand, choices.supply, choices.adds)
        )  # (N, 1) each
        number = torch.arange(1, int(limit.max()) + 1, device=limit.device)  # (K,)
        rows, columns = torch.nonzero(number <= limit, as_tuple=True)
        total, offered, jobs = (inputs[name] for name in ("total", "offered", "jobs"))  # (N, 1)
        share = (number / total)[rows, columns]
        after = ((supply + adds * number) / total)[rows, columns]
        equal = 1.0 / jobs[rows, 0]  # share of the cluster for each job
        without_one = after - 1.0 / total[rows, 0]
        shares = torch.stack(
            [
                share,
                share.log(),
                (number / limit)[rows, columns],
                (number / offered)[rows, columns],
                (number / demand)[rows, columns],
                (number == limit)[rows, columns].to(share.dtype),
                (after / equal).clamp(max=4.0),
                (after > equal - 1e-4).to(share.dtype),  # the job has its equal share
                (without_one > equal - 1e-4).to(share.dtype),  # and would have it with one less
            ],
            dim=1,
        )  # (the numbers that are possible, NUM_SHARES)
        scores = self.score(self.chosen(hidden[:, 0, 0])[rows] + self.shares(shares)).squeeze(-1)
        logits: Tensor = scores.new_full((len(chosen), len(number)), -torch.inf)
        logits[rows, columns] = scores
        return logits


class CJSParts(ProblemParts):
    """The parts of CJS, named by its row: a decision is a stage and a number of executors."""

    layouts = LAYOUTS
    batch_windows = 512
    window_steps = 1
    encoders = CJSEncoders
    head = CJSHead

    def split(self, batch: Batch, size: int) -> list[dict[str, Any]]:
        """Cut an update's decisions into forward passes of alike numbers of choices."""
        view: ClusterView = batch["observations"]
        tokens = 2 + np.bincount(view.stage_row, view.schedulable, len(view))
        order = np.argsort(-tokens, kind="stable")
        tokens = tokens[order]
        passes, begin = [], 0
        while begin < len(order):
            # What has less than two thirds of the longest's tokens goes elsewhere, if it is enough.
            alike = int(np.count_nonzero(3 * tokens[begin:] >= 2 * tokens[begin]))
            end = begin + min(max(alike, LEAST_ROWS), size)
            if len(order) - end < LEAST_ROWS and len(order) - begin <= size:
                end = len(order)
            rows = order[begin:end]
            passes.append(
                {name: each[rows] for name, each in batch.items() if name != "observations"}
            )
            passes[-1]["observations"] = view.take(rows)
            begin = end
        return passes

    def tensors(self, batch: Batch) -> dict[str, Any]:
        """Turn N decisions into what the model reads.

        Args:
            batch: observations (N rows) and returns (N, 1); in training also targets (N, 1, 2), the
                teacher's decisions.

        Returns:
            The inputs. With targets, `chosen` (N,), the teacher's choice, is among them; `actions`
            (N, 1, 2) are that choice and the number of executors, less one, as far as they can be
            committed; and the mask leaves out decisions whose answer is not allowed here: no
            stage, where no task runs.
        """
        view: ClusterView = batch["observations"]
        choices = choices_of(view)
        shape = (len(view), 1)
        inputs: dict[str, Any] = {
            "graph": _as_tensors(graph_of(view)),
            "choices": _as_tensors(choices),
            "exists": {CHOICE: torch.from_numpy(choices.exists).unsqueeze(1)},
            "total": _floats(view.num_executors),
            "offered": _floats(view.committable.clip(min=1)),
            "jobs": _floats(view.num_jobs.clip(min=1)),
            "returns": torch.from_numpy(batch["returns"]),
            # A decision sees itself alone, so its place in the episode says nothing.
            "timesteps": torch.zeros(shape, dtype=torch.int64),
            "mask": torch.ones(shape, dtype=torch.bool),
            "previous_mask": torch.zeros(shape, dtype=torch.bool),
        }
        if "targets" in batch:
            stage, executors = batch["targets"][:, 0].T
            is_it = (choices.place == stage[:, None]) & choices.exists
            chosen = np.where(is_it.any(axis=1), is_it.argmax(axis=1), 0)
            rows = np.arange(len(view))
            number = np.minimum(executors, choices.limit[rows, chosen] - 1)
            inputs["chosen"] = torch.from_numpy(chosen)
            inputs["actions"] = torch.from_numpy(np.stack([chosen, number], axis=1)[:, None])
            inputs["mask"] = torch.from_numpy(choices.allowed[rows, chosen][:, None])
        return inputs

    def score(
        self, config: LLMConfig, logits: Logits, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the summed loss of both parts, and by name which answers were the teacher's."""
        counts = batch["mask"][:, 0]
        chosen, number = batch["actions"][counts, 0].T
        choice, executors = logits.choice[counts], logits.executors[counts]
        is_one = chosen > 0
        loss = F.cross_entropy(choice, chosen, reduction="sum")
        loss = loss + F.cross_entropy(executors[is_one], number[is_one], reduction="sum")
        return loss, {
            "stage_accuracy": choice.detach().argmax(dim=1) == chosen,
            "executor_accuracy": (executors.detach().argmax(dim=1) == number)[is_one],
        }

    def decide(self, model: TokenModel, inputs: Batch, cache: Any, pick: Pick) -> IntArray:
        """Return (N, 2) actions; see the base.

        They are a place among the row's stages, -1 for none, and a number of executors less one.
        """
        encoders, head, choices = model.encoders, model.head, inputs["choices"]
        assert isinstance(encoders, CJSEncoders)
        assert isinstance(head, CJSHead)
        assert cache is None
        num_rows, num_choices = choices.stage.shape
        cache = model.new_cache(num_rows, num_choices + 1)
        encoded = encoders.encode(inputs["graph"])
        hidden = model.hidden({CHOICE: encoders.choices(encoded, inputs)}, inputs, cache)
        chosen = torch.from_numpy(pick(head.choices(hidden[CHOICE], choices)))
        chosen = chosen.to(choices.stage.device)
        token = encoders.executors(encoded, choices, chosen)
        hidden = model.hidden({EXECUTORS: token}, inputs, cache)
        number = pick(head.executors(hidden[EXECUTORS], inputs, chosen))
        place = choices.place.gather(1, chosen.unsqueeze(1)).squeeze(1).cpu().numpy()
        return np.stack([place, np.where(place >= 0, number, 0)], axis=1)

    def sized(self, config: LLMConfig, env: Any, episodes: PaddedEpisodes) -> LLMConfig:
        """Return the config for a problem whose sizes come with each observation."""
        return replace(config, max_steps=1, num_actions=0, observation_shape=())

    def check_episodes(self, config: LLMConfig, episodes: PaddedEpisodes) -> None:
        """Raise `InputError` unless the episodes can be learned from."""
        view, actions = episodes.seen, episodes.targets[episodes.mask]
        if not isinstance(view, ClusterView):
            raise InputError(f"observations must be of cjs, got {type(view).__name__}")
        if actions.ndim != 2 or actions.shape[1] != 2:
            raise InputError(f"actions must be a stage and executors, got {actions.shape[1:]}")
        stage, executors = actions.T
        if (stage < -1).any() or (stage >= view.num_stages).any():
            step = int(np.argmax((stage < -1) | (stage >= view.num_stages)))
            raise InputError(
                f"actions must name one of {view.num_stages[step]} stages or -1, "
                f"got {stage[step]} at step {step}"
            )
        least = int(executors.min(initial=0))
        check(least >= 0, "executors of actions", "be at least 0", least)

    def check_env(self, config: LLMConfig, env: Any) -> None:
        """Raise `InputError` unless it is a cluster."""
        check_is_cluster(env)


def _two_layers(size: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, width), nn.GELU(), nn.Linear(width, width))


def _mean(values: Tensor, group: Tensor, number: int) -> Tensor:
    """Return (number, F) means of the (M, F) values in each group, 0 for an empty one."""
    total = values.new_zeros(number, values.shape[1]).index_add(0, group, values)
    count = torch.bincount(group, minlength=number).clamp(min=1).unsqueeze(1)
    return total / count


def _floats(values: NDArray[Any]) -> Tensor:
    """Return (N, 1)."""
    return torch.from_numpy(values.astype(np.float32)).unsqueeze(1)


def _as_tensors(values: Any) -> Any:
    """Return a named tuple of arrays, or of lists of such, as one of tensors."""
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values)
    if isinstance(values, list):
        return [_as_tensors(each) for each in values]
    assert isinstance(values, ClusterGraph | Choices | Level)
    return type(values)(*(_as_tensors(each) for each in values))
