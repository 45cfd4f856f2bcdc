"""Offline training: imitate the pool's episodes, told what return each of them reached.

A plain loop. What an update does is a pure function of the seed, its number and the weights, so a
run that stops and resumes is equal, bit for bit, to one that does not, with no generator's state
on disk.

    out/last/   the policy, optimizer.safetensors, state.json: where to go on
    out/best/   the policy that did best in validation
    out/metrics.jsonl
"""

import dataclasses
import json
import math
import reprlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netllm_gym.data.windows import PaddedEpisodes, Windows
from netllm_gym.errors import InputError
from netllm_gym.files import (
    check_can_be_folder,
    naming,
    read_json,
    recover_folder,
    replace_folder,
    write_whole,
)
from netllm_gym.policies.llm.checkpoint import (
    file_sha256,
    load_model,
    read_tensors,
    save_llm_policy,
    write_policy,
    write_tensors,
)
from netllm_gym.policies.llm.config import LLMConfig, TrainConfig, to_json
from netllm_gym.policies.llm.model import LLMModel, check_device, inputs_of, on_device
from netllm_gym.policies.llm.parts import parts_of
from netllm_gym.policies.llm.policy import LLMPolicyFactory, for_acting

STATE_SCHEMA = "netllm-gym run 1"

Validate = Callable[[LLMPolicyFactory], float]
Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        updates: Updates made in all.
        best_update: After which the best policy was kept; None without validation.
        best_score: Its score in validation.
        policy: Folder of the policy to use: the best, or the last without validation.
    """

    updates: int
    best_update: int | None
    best_score: float | None
    policy: Path


def train_llm(
    episodes: PaddedEpisodes,
    config: LLMConfig,
    train: TrainConfig,
    out: Path | str,
    *,
    validate: Validate | None = None,
    trained_on: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    stop_after: int | None = None,
) -> TrainResult:
    """Train a policy on episodes and keep the best and the last.

    Args:
        episodes: The pool.
        config: The policy; the constants of its `returns` are fitted here if they are not yet.
        train: How.
        out: Folder of the run; new, empty or that of an earlier run.
        validate: Scores a policy, higher is better; None keeps only the last.
        trained_on: Where the episodes and the validation came from, as JSON values; kept in the
            policy's folder, and a run is resumed only with an equal one.
        progress: Told the metrics of each update and validation.
        resume: Go on from `out/last` if there is one.
        stop_after: Leave off after this update, as an interrupted run would; for tests.

    Raises:
        InputError: If the episodes do not fit the config, `out` holds something else, the device
            is not there, or a resumed run's settings or origin differ; nothing is written then.
    """
    out = Path(out)
    parts = parts_of(config.problem)
    parts.check_episodes(config, episodes)
    _check_out(out)
    check_device(train.device)
    if not config.returns.is_fitted:
        config = dataclasses.replace(config, returns=config.returns.fit(episodes))
    if not train.batch_episodes:
        train = dataclasses.replace(train, batch_episodes=parts.batch_windows)
    before = torch.get_num_threads()
    if train.threads:
        torch.set_num_threads(train.threads)
    try:
        run = _Run(episodes, config, train, out, validate, trained_on, progress, resume)
        return run.until(min(train.updates, stop_after or train.updates))
    finally:
        torch.set_num_threads(before)


class _Run:
    """One training run: its model, its optimizer and its files."""

    def __init__(
        self,
        episodes: PaddedEpisodes,
        config: LLMConfig,
        train: TrainConfig,
        out: Path,
        validate: Validate | None,
        trained_on: Mapping[str, Any] | None,
        progress: Progress | None,
        resume: bool,
    ) -> None:
        self.episodes, self.config, self.train, self.out = episodes, config, train, out
        self.validate, self.progress = validate, progress
        self.trained_on = _as_json(trained_on or {})
        self.parts = parts_of(config.problem)
        self.update = 0
        self.best_update: int | None = None
        self.best_score: float | None = None
        recover_folder(out / "last")
        recover_folder(out / "best")
        self.resumes = resumes = resume and (out / "last").is_dir()
        if not resumes and (out / "last").exists():
            raise InputError(f"out must be new or be resumed, got {out}, which holds a run")
        if resumes:
            self.model, values = load_model(out / "last")
        else:
            self.model = LLMModel(config)
            self.model.encoders.fit(episodes.seen)
        self.model.to(train.device)
        self.optimizer = make_optimizer(self.model, train)
        if resumes:
            self._resume(values["trained_on"])
        # A window is a whole episode: the band, not the cut, says how far a decision sees. Where
        # that is the decision itself, each makes a window, so that long episodes are mixed.
        num_steps = self.parts.window_steps or episodes.mask.shape[1]
        self.windows = Windows(episodes, config.returns.tokens(episodes), num_steps, num_steps)

    def until(self, last_update: int) -> TrainResult:
        """Make the updates up to `last_update`."""
        out, train = self.out, self.train
        out.mkdir(parents=True, exist_ok=True)
        path = out / "metrics.jsonl"
        # What a run wrote that was killed before its first checkpoint is of no use.
        with naming(path), path.open("a" if self.resumes else "w") as metrics:

            def tell(values: Mapping[str, Any]) -> None:
                metrics.write(json.dumps(values) + "\n")
                metrics.flush()
                if self.progress is not None:
                    self.progress(values)

            while self.update < last_update:
                start = time.perf_counter()
                values = self._one_update()
                self.update += 1
                values["seconds"] = round(time.perf_counter() - start, 4)
                tell({"update": self.update, **values})
                ends = self.update == train.updates
                validates = ends or _is_due(self.update, train.validate_every)
                if self.validate is not None and validates:
                    tell({"update": self.update, **self._validate(self.validate)})
                leaves = self.update == last_update
                if leaves or _is_due(self.update, train.checkpoint_every):
                    replace_folder(out / "last", self._write)
        policy = out / ("last" if self.best_update is None else "best")
        return TrainResult(self.update, self.best_update, self.best_score, policy)

    def _one_update(self) -> dict[str, Any]:
        """Accumulate the gradient of one update, clip it once, step."""
        train = self.train
        share = learning_rate_share(self.update, train)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share
        self.model.train()
        drawn = self.windows.sample(
            train.seed, self.update, train.batch_episodes * train.accumulate
        )
        cut: Mapping[str, Any] = self.windows.batch(drawn)
        batches = [
            on_device(self.parts.tensors(part), train.device)
            for part in self.parts.split(cut, train.batch_episodes)
        ]
        steps = max(1, sum(int(batch["mask"].sum()) for batch in batches))
        loss_sum, right = 0.0, defaultdict[str, list[Tensor]](list)
        with torch.random.fork_rng(devices=[]):  # dropout's draws belong to this update alone
            torch.manual_seed((train.seed << 32) + self.update)
            for batch in batches:
                loss, answers = self.parts.score(self.model(inputs_of(batch)), batch)
                (loss / steps).backward()  # type: ignore[no-untyped-call]
                loss_sum += float(loss.detach())
                for name, each in answers.items():
                    right[name].append(each)
        trained = [each for group in self.optimizer.param_groups for each in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(trained, train.clip_norm))
        if not math.isfinite(norm):
            raise InputError(f"gradient must be finite, got {norm} in update {self.update + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "loss": loss_sum / steps,
            **{
                name: int(sum(each.sum() for each in found)) / max(1, sum(map(len, found)))
                for name, found in right.items()
            },
            "gradient_norm": norm,
            "learning_rate": train.learning_rate * share,
        }

    def _validate(self, validate: Validate) -> dict[str, Any]:
        """Score the policy as it would act, and keep it if it is the best."""
        acting = for_acting(self.model)
        score = float(validate(LLMPolicyFactory(acting, trained_on=self.trained_on)))
        if self.best_score is None or score > self.best_score:
            self.best_update, self.best_score = self.update, score
            save_llm_policy(self.out / "best", self.model, self.trained_on)
        return {"score": score, "best_score": self.best_score, "best_update": self.best_update}

    def _write(self, folder: Path) -> None:
        write_policy(folder, self.model, self.trained_on)
        moments = folder / "optimizer.safetensors"
        write_tensors(moments, _moments(self.model, self.optimizer))
        state = {
            "schema": STATE_SCHEMA,
            "optimizer_sha256": file_sha256(moments),
            "update": self.update,
            "best_update": self.best_update,
            "best_score": self.best_score,
            "train": to_json(self.train),
            "episodes": len(self.episodes),
        }
        (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True) + "\n")

    def _resume(self, trained_on: Mapping[str, Any]) -> None:
        folder = self.out / "last"
        state = _read_state(folder / "state.json")
        asked = {"train": to_json(self.train), "episodes": len(self.episodes)}
        asked |= {"config": _as_json(to_json(self.config)), "trained_on": self.trained_on}
        kept = {**state, "config": _as_json(to_json(self.model.config)), "trained_on": trained_on}
        for name, value in asked.items():
            if value != kept[name]:
                differs = _difference(value, kept[name])
                raise InputError(f"{name} must be that of the run in {self.out}, {differs}")
        self.update, self.best_update = state["update"], state["best_update"]
        self.best_score = state["best_score"]
        if self.best_update is not None and not (self.out / "best").is_dir():
            raise InputError(
                f"{self.out} must hold the policy of update {self.best_update}, got no folder best"
            )
        path = folder / "optimizer.safetensors"
        moments = read_tensors(path, state["optimizer_sha256"])
        _load_moments(self.model, self.optimizer, moments, path)
        self._cut_metrics()

    def _cut_metrics(self) -> None:
        """Leave of the metrics those up to the update from which the run goes on."""
        path = self.out / "metrics.jsonl"
        lines = path.read_bytes().splitlines() if path.is_file() else []
        updates = [_update_of(line) for line in lines]
        if updates and updates[-1] is None:
            updates.pop()  # half a line, where the run was killed
        kept = []
        for number, (update, line) in enumerate(zip(updates, lines, strict=False), start=1):
            if update is None:
                raise InputError(
                    f"{path}:{number}: a line must be JSON with the number of an update, "
                    f"got {reprlib.repr(line)}"
                )
            if update <= self.update:
                kept.append(line + b"\n")
        write_whole(path, b"".join(kept))


def make_optimizer(model: LLMModel, train: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over what is trained: the backbone's part at its own rate, no decay on 1-D."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, each in model.named_parameters():
        if each.requires_grad:
            groups.setdefault((name.startswith("backbone."), each.ndim >= 2), []).append(each)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": train.adapter_learning_rate if inside else train.learning_rate,
                "initial_lr": train.adapter_learning_rate if inside else train.learning_rate,
                "weight_decay": train.weight_decay if decays else 0.0,
            }
            for (inside, decays), parameters in groups.items()
        ],
        fused=True,
    )


def learning_rate_share(update: int, train: TrainConfig) -> float:
    """Return the share of the full rates in update 0, 1, ...: a linear rise, then a cosine."""
    rise = train.warmup_fraction * train.updates
    if update < rise:
        return (update + 1) / (math.ceil(rise) + 1)
    done = (update - rise) / max(1.0, train.updates - rise)
    cosine = 0.5 * (1.0 + math.cos(math.pi * done))
    return train.final_fraction + (1.0 - train.final_fraction) * cosine


def _check_out(out: Path) -> None:
    """Refuse a place that is neither new nor empty nor a run's."""
    if out.is_dir():
        files = {path.name for path in out.iterdir()}
        if files and not files & {"last", ".last.old", "metrics.jsonl"}:
            raise InputError(
                f"out must be a new or empty folder or a training run, got {out} with {min(files)}"
            )
    check_can_be_folder("out", out)


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as they come back from a JSON file: tuples as lists."""
    return dict(json.loads(json.dumps(values)))


def _update_of(line: bytes) -> int | None:
    """Return the update that a line of the metrics speaks of, if it is whole."""
    try:
        return int(json.loads(line)["update"])
    except Exception:  # any bytes may stand there
        return None


def _is_due(update: int, every: int) -> bool:
    return every > 0 and update % every == 0


def _difference(asked: Any, kept: Any) -> str:
    """Say where two JSON values differ first."""
    if isinstance(asked, dict) and isinstance(kept, dict):
        for name in sorted(asked.keys() | kept.keys()):
            if asked.get(name) != kept.get(name):
                return f"with {name} " + _difference(asked.get(name), kept.get(name))
    return f"{reprlib.repr(kept)}, got {reprlib.repr(asked)}"


def _moments(model: LLMModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state, flat: parameter|moment."""
    return {
        f"{name}|{moment}": value.detach().cpu().contiguous()
        for name, each in model.named_parameters()
        for moment, value in optimizer.state.get(each, {}).items()
    }


def _load_moments(
    model: LLMModel,
    optimizer: torch.optim.Optimizer,
    moments: Mapping[str, Tensor],
    path: Path,
) -> None:
    parameters = dict(model.named_parameters())
    for key, value in moments.items():
        name, _, moment = key.rpartition("|")
        each = parameters.get(name)
        shape = None if each is None else torch.Size() if moment == "step" else each.shape
        if each is None or value.shape != shape:
            raise InputError(f"{path} must fit the policy, got {key} {tuple(value.shape)} amiss")
        optimizer.state[each][moment] = value.to(each.device)


def _read_state(path: Path) -> dict[str, Any]:
    """Return the checked values of a run's `state.json`."""
    if not path.is_file():
        raise InputError(f"{path} must exist to resume, got no such file")
    state = read_json(path)
    schema = state.get("schema") if isinstance(state, dict) else None
    if schema != STATE_SCHEMA:
        raise InputError(f"{path} must have the schema {STATE_SCHEMA!r}, got {schema!r}")
    validated = state.get("best_update") is not None
    kinds: dict[str, tuple[type, ...]] = {
        "update": (int,),
        "best_update": (int,) if validated else (type(None),),
        "best_score": (int, float) if validated else (type(None),),
        "train": (dict,),
        "episodes": (int,),
        "optimizer_sha256": (str,),
    }
    for name, allowed in kinds.items():
        if name not in state or type(state[name]) not in allowed:
            wanted = " or ".join(kind.__name__ for kind in allowed)
            raise InputError(f"{path} must have {name} of {wanted}, got {state.get(name)!r}")
    if state["update"] < 1:
        raise InputError(f"{path} must have update above 0, got {state['update']}")
    return dict(state)
