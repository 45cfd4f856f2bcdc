"""A training run of any method: its files, its validation, and how it is resumed.

An update is a pure function of the settings, its number and the weights. A run that stops and
resumes is therefore equal, bit for bit, to one that does not, and no generator's state is saved.

    out/last/          the newest policy, optimizer.safetensors and state.json, to resume from
    out/best/          the policy that did best in validation
    out/metrics.jsonl  a line for each update and each validation
    out/tensorboard/   the same numbers, where tensorboard is installed
"""

import importlib.util
import json
import reprlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from netllm_gym.errors import InputError
from netllm_gym.files import (
    check_can_be_folder,
    errors_begin_with,
    naming,
    recover_folder,
    replace_folder,
    write_whole,
)
from netllm_gym.policies.checkpoint import file_sha256, read_tensors, write_tensors
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.schedules import Schedule
from netllm_gym.typed_json import Rule, as_json, checked, read_checked

STATE_SCHEMA: Literal["netllm-gym run 2"] = "netllm-gym run 2"
OPTIMIZER_FILE = "optimizer.safetensors"

Validate = Callable[[Any], float]
Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        updates: Updates made in all.
        best_update: Update after which the best policy was kept; None without validation.
        best_score: Score of the best policy in validation.
        policy: Folder of the policy to use: the best one, or the last one without validation.
    """

    updates: int
    best_update: int | None
    best_score: float | None
    policy: Path


class Learner:
    """Weights, their optimizer, and what one update does to them.

    Attributes:
        network: Has the weights that are trained.
        optimizer: Optimizer of these weights.
        config: The policy's config, as JSON values.
        settings: All that an update depends on besides config and weights, as JSON values.
        warm_start: Whether the weights were trained before the run, so that they may be its best.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    warm_start: bool = False

    def update(self, number: int) -> dict[str, Any]:
        """Make update `number`, the first is 0, and return its metrics."""
        raise NotImplementedError

    def policy(self, trained_on: Mapping[str, Any]) -> TrainedPolicyFactory:
        """Return the factory of the policy as it would act now."""
        raise NotImplementedError

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the policy's files into an existing folder."""
        raise NotImplementedError

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the state of the optimizer, which an update changes besides the weights."""
        return flat_optimizer_state(self.network, self.optimizer)

    def load_optimizer_state(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        """Restore what `optimizer_state` returned; `path` is where it was read."""
        load_flat_optimizer_state(self.network, self.optimizer, tensors, path)

    def state(self) -> dict[str, Any]:
        """Return what else later updates depend on, as JSON values; here nothing."""
        return {}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Restore what `state` returned; `path` is where it was read."""


@dataclass
class RunState:
    """How far a run is."""

    update: int = 0
    best_update: int | None = None
    best_score: float | None = None


@dataclass(frozen=True)
class TrainingRun:
    """A run's folder and what its caller decides of it, whatever learns there.

    Attributes:
        out: Its folder; new, empty or that of an earlier run.
        validate: Scores a policy, given its factory; higher is better; None keeps only the last.
        trained_on: Where the training data and the validation came from, as JSON values; kept in
            the policy's folder, and a run is resumed only with an equal one.
        progress: Told the metrics of each update and validation.
        resume: Resume from `out/last` if it exists.
        stop_after: Stop after this update, as an interrupted run would; for tests.
    """

    out: Path
    _: KW_ONLY
    validate: Validate | None = None
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    resume: bool = False
    stop_after: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "trained_on", as_json("trained_on", self.trained_on))

    @property
    def last(self) -> Path:
        """Folder of the newest policy."""
        return self.out / "last"

    def open(self) -> Path | None:
        """Repair what a killed run left; return `last` if the learner must take its weights.

        Raises:
            InputError: If `out` holds something else, or a run that is not to be resumed.
        """
        check_place(self.out)
        recover_folder(self.last)
        recover_folder(self.out / "best")
        if self.resume and self.last.is_dir():
            return self.last
        if self.last.exists():
            raise InputError(f"out must be new or be resumed, got {self.out}, which holds a run")
        return None

    def train(
        self, learner: Learner, kept: Mapping[str, Any] | None, schedule: Schedule
    ) -> TrainResult:
        """Make the updates that are left.

        Args:
            learner: Fresh, or with the weights of `last`.
            kept: `config` and `trained_on` as `last` has them, if the run is resumed.
            schedule: When to validate, to write, to end.

        Raises:
            InputError: If a resumed run's settings or origin differ; nothing is written then.
        """
        progress = RunState() if kept is None else self._resume(learner, kept)
        if progress.update > schedule.updates:
            raise InputError(
                f"{self.last / 'state.json'}: update must be at most {schedule.updates}, "
                f"got {progress.update}"
            )
        last_update = min(schedule.updates, self.stop_after or schedule.updates)
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / "metrics.jsonl"
        # What a run wrote that was killed before its first checkpoint is of no use.
        with (
            naming(path),
            path.open("w" if kept is None else "a") as metrics,
            _scalars(self.out / "tensorboard", progress.update) as show,
        ):

            def tell(values: Mapping[str, Any]) -> None:
                metrics.write(json.dumps(values) + "\n")
                metrics.flush()
                show(values)
                if self.progress is not None:
                    self.progress(values)

            if kept is None and learner.warm_start and self.validate and schedule.validate_every:
                tell(self._score(self.validate, learner, progress))
            while progress.update < last_update:
                start = time.perf_counter()
                values = learner.update(progress.update)
                progress.update += 1
                values["seconds"] = round(time.perf_counter() - start, 4)
                tell({"update": progress.update, **values})
                ends = progress.update == schedule.updates
                validates = ends or _is_due(progress.update, schedule.validate_every)
                if self.validate is not None and validates:
                    tell(self._score(self.validate, learner, progress))
                leaves = progress.update == last_update
                if leaves or _is_due(progress.update, schedule.checkpoint_every):
                    replace_folder(self.last, lambda folder: self._write(folder, learner, progress))
        policy = self.last if progress.best_update is None else self.out / "best"
        return TrainResult(progress.update, progress.best_update, progress.best_score, policy)

    def _score(self, validate: Validate, learner: Learner, progress: RunState) -> dict[str, Any]:
        """Score the policy as it would act, and keep it if it is the best."""
        score = float(validate(learner.policy(self.trained_on)))
        if progress.best_score is None or score > progress.best_score:
            progress.best_update, progress.best_score = progress.update, score
            replace_folder(self.out / "best", lambda folder: learner.write(folder, self.trained_on))
        return {
            "update": progress.update,
            "score": score,
            "best_score": progress.best_score,
            "best_update": progress.best_update,
        }

    def _write(self, folder: Path, learner: Learner, progress: RunState) -> None:
        learner.write(folder, self.trained_on)
        optimizer_file = folder / OPTIMIZER_FILE
        write_tensors(optimizer_file, learner.optimizer_state())
        state = {
            "schema": STATE_SCHEMA,
            "optimizer_sha256": file_sha256(optimizer_file),
            **asdict(progress),
            **learner.settings,
            **learner.state(),
        }
        (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True) + "\n")

    def _resume(self, learner: Learner, kept: Mapping[str, Any]) -> RunState:
        """Give the learner back what it left, and return how far it was."""
        path = self.last / "state.json"
        state = _read_state(path, learner.settings)
        origin = {"config": learner.config, "trained_on": self.trained_on}
        asked = as_json("settings", {**learner.settings, **origin})
        found = as_json("settings", {**state, **{name: kept[name] for name in origin}})
        for name, value in asked.items():
            if value != found[name]:
                differs = _difference(value, found[name])
                raise InputError(
                    f"{name} must be that of the run in {self.out}, {differs}; "
                    "name another out to begin a new run"
                )
        progress = RunState(state["update"], state["best_update"], state["best_score"])
        best = progress.best_update
        if best is not None and not (self.out / "best").is_dir():
            raise InputError(
                f"{self.out} must hold the policy of update {best}, got no folder best"
            )
        learner.restore(state, path)
        optimizer_file = self.last / OPTIMIZER_FILE
        try:
            tensors = read_tensors(optimizer_file, state["optimizer_sha256"])
        except InputError as error:
            raise InputError(f"{error}; name another out to begin a new run") from None
        learner.load_optimizer_state(tensors, optimizer_file)
        self._cut_metrics(progress.update)
        return progress

    def _cut_metrics(self, last_update: int) -> None:
        """Keep the metrics up to the update from which the run is resumed."""
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
                    f"got {reprlib.repr(line)}: delete the line, and the run can be resumed"
                )
            if update <= last_update:
                kept.append(line + b"\n")
        write_whole(path, b"".join(kept))


def check_place(out: Path) -> None:
    """Refuse a place that is neither new nor empty nor a run's."""
    if out.is_dir():
        files = {path.name for path in out.iterdir()}
        if files and not files & {"last", ".last.old", "metrics.jsonl"}:
            raise InputError(
                f"out must be a new or empty folder or a training run, got {out} with {min(files)}"
            )
    check_can_be_folder("out", out)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch use this number of threads in the context; 0 keeps its setting."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def flat_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state, flat: parameter|moment."""
    return {
        f"{name}|{moment}": value.detach().cpu().contiguous()
        for name, each in model.named_parameters()
        for moment, value in optimizer.state.get(each, {}).items()
    }


def load_flat_optimizer_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    path: Path,
) -> None:
    """Restore what `flat_optimizer_state` returned.

    Raises:
        InputError: If the state belongs to another model.
    """
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, _, moment = key.rpartition("|")
        each = parameters.get(name)
        shape = None if each is None else torch.Size() if moment == "step" else each.shape
        if each is None or value.shape != shape:
            raise InputError(f"{path} must fit the policy, got {key} of shape {tuple(value.shape)}")
        optimizer.state[each][moment] = value.to(each.device)


@contextmanager
def _scalars(folder: Path, update: int) -> Iterator[Progress]:
    """Yield a function that writes metrics for TensorBoard; it does nothing if not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        yield lambda values: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=update + 1) as writer:

        def show(values: Mapping[str, Any]) -> None:
            for name, value in values.items():
                if name != "update" and isinstance(value, int | float):
                    writer.add_scalar(name, value, values["update"])

        yield show


def _update_of(line: bytes) -> int | None:
    """Return the number of the update in a line of the metrics; None if the line is broken."""
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


@dataclass(frozen=True)
class _SavedState:
    """What every run's `state.json` has; the settings of its method stand beside it."""

    schema: Literal["netllm-gym run 2"]
    update: Annotated[int, Rule(lambda number: number >= 1, "be above 0")]
    best_update: int | None
    best_score: float | None
    optimizer_sha256: str

    def __post_init__(self) -> None:
        if (self.best_update is None) != (self.best_score is None):
            raise InputError(f"best_score must belong to best_update, got {self.best_score}")


def _read_state(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked values of a run's `state.json`, its settings of the same types."""
    if not path.is_file():
        raise InputError(f"{path} must exist to resume, got no such file")
    state: dict[str, Any] = read_checked(path, dict[str, Any], "the state")
    with errors_begin_with(path):
        checked(_SavedState, state, "the state", ignore_unknown=True)
        for name, value in settings.items():
            checked(type(value), state.get(name), name)
    return state
