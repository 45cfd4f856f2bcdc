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
import math
import reprlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from netllm_gym.configs import to_json
from netllm_gym.errors import InputError
from netllm_gym.files import (
    check_can_be_folder,
    errors_begin_with,
    naming,
    recover_folder,
    replace_folder,
    write_whole,
)
from netllm_gym.policies.checkpoint import check_device, file_sha256, read_tensors, write_tensors
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.schedules import Schedule, SupervisedSchedule
from netllm_gym.training.methods import Progress, TrainRequest, TrainResult
from netllm_gym.typed_json import Rule, as_json, checked, read_checked

STATE_SCHEMA: Literal["netllm-gym run 2"] = "netllm-gym run 2"
OPTIMIZER_FILE = "optimizer.safetensors"

Validate = Callable[[Any], float]


class Learner:
    """Weights, their optimizer, and what one update does to them."""

    network: nn.Module  # has the weights that are trained
    optimizer: torch.optim.Optimizer  # optimizer of these weights
    config: Mapping[str, Any]  # the policy's config, as JSON values
    # all that an update depends on besides config and weights, as JSON values
    settings: Mapping[str, Any]
    # `config` and `trained_on` of the policy from which a run is resumed; None anew
    kept: Mapping[str, Any] | None = None
    # whether the weights were trained before the run, so that they may be its best
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
        """Return the state of the optimizer, flat: parameter|moment."""
        return {
            f"{name}|{moment}": value.detach().cpu().contiguous()
            for name, each in self.network.named_parameters()
            for moment, value in self.optimizer.state.get(each, {}).items()
        }

    def load_optimizer_state(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        """Restore what `optimizer_state` returned; `path` is where it was read."""
        parameters = dict(self.network.named_parameters())
        for key, value in tensors.items():
            name, _, moment = key.rpartition("|")
            each = parameters.get(name)
            shape = None if each is None else torch.Size() if moment == "step" else each.shape
            if each is None or value.shape != shape:
                found = f"{key} of shape {tuple(value.shape)}"
                raise InputError(f"{path} must fit the policy, got {found}")
            self.optimizer.state[each][moment] = value.to(each.device)

    def state(self) -> dict[str, Any]:
        """Return what else later updates depend on, as JSON values; here nothing."""
        return {}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Restore what `state` returned; `path` is where it was read."""


class SupervisedLearner(Learner):
    """Learns from batches that are drawn by the number of the update.

    Each group of the optimizer has its full learning rate as `initial_lr`.
    """

    schedule: SupervisedSchedule  # how it is trained

    def add_gradients(self, number: int) -> dict[str, float]:
        """Add up the gradients of an update's batches, and return metrics."""
        raise NotImplementedError

    def update(self, number: int) -> dict[str, Any]:
        """Accumulate the gradient of one update, clip it once, step."""
        schedule, groups = self.schedule, self.optimizer.param_groups
        share = schedule.share(number)
        for group in groups:
            group["lr"] = group["initial_lr"] * share
        self.network.train()
        with torch.random.fork_rng(devices=[]):  # dropout's draws belong to this update alone
            torch.manual_seed((schedule.seed << 32) + number)
            metrics = self.add_gradients(number)
        trained = [each for group in groups for each in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(trained, schedule.max_grad_norm))
        check_finite("gradient", norm, number)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        rate = schedule.learning_rate * share
        return {**metrics, "gradient_norm": norm, "learning_rate": rate}


def kept_of(model: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `Learner.kept` for a model with a `config` and the values of its `config.json`."""
    return {"config": to_json(model.config), "trained_on": values["trained_on"]}


def check_finite(name: str, value: float, number: int) -> None:
    """Refuse an update whose gradient or loss is not finite."""
    if not math.isfinite(value):
        raise InputError(f"{name} must be finite, got {value} in update {number + 1}")


@dataclass
class _RunState:
    """How far a run is, as in `state.json`, where the settings of its method stand beside it."""

    schema: Literal["netllm-gym run 2"]
    update: Annotated[int, Rule(lambda number: number >= 1, "be above 0")]
    best_update: int | None
    best_score: float | None
    optimizer_sha256: str

    def __post_init__(self) -> None:
        if (self.best_update is None) != (self.best_score is None):
            raise InputError(f"best_score must belong to best_update, got {self.best_score}")


@dataclass(frozen=True)
class TrainingRun:
    """A run's folder and what its caller decides of it, whatever learns there."""

    out: Path  # its folder; new, empty or that of an earlier run
    _: KW_ONLY
    # scores a policy, given its factory; higher is better; None keeps only the last
    validate: Validate | None = None
    # where the training data and the validation came from, as JSON values; kept in the policy's
    # folder, and a run is resumed only with an equal one
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None  # told the metrics of each update and validation
    resume: bool = False  # resume from `out/last` if it exists
    stop_after: int | None = None  # stop after this update, as an interrupted run would; for tests

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "trained_on", as_json("trained_on", self.trained_on))

    @property
    def last(self) -> Path:
        """Folder of the newest policy."""
        return self.out / "last"

    def open(self) -> Path | None:
        """Repair what a killed run left; return `last` if the learner must take its weights."""
        check_place(self.out)
        recover_folder(self.last)
        recover_folder(self.out / "best")
        if self.resume and self.last.is_dir():
            return self.last
        if self.last.exists():
            raise InputError(f"out must be new or be resumed, got {self.out}, which holds a run")
        return None

    def train(self, begin: Callable[[Path | None], Learner], schedule: Schedule) -> TrainResult:
        """Begin or resume, make the updates that are left, and keep the best and the last policy.

        Args:
            begin: Makes what learns, given the folder of the policy to resume from or None.
            schedule: When to validate, to write, to end.

        Raises:
            InputError: If the folder holds something else, or a resumed run's settings or origin
                differ; nothing is written then.
        """
        check_device(getattr(schedule, "device", "cpu"))
        last = self.open()
        with cpu_threads(schedule.threads):
            return self._train(begin(last), schedule)

    def _train(self, learner: Learner, schedule: Schedule) -> TrainResult:
        kept = learner.kept
        progress = _RunState(STATE_SCHEMA, 0, None, None, "")
        if kept is not None:
            progress = self._resume(learner, kept)
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

    def _score(self, validate: Validate, learner: Learner, progress: _RunState) -> dict[str, Any]:
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

    def _write(self, folder: Path, learner: Learner, progress: _RunState) -> None:
        learner.write(folder, self.trained_on)
        optimizer_file = folder / OPTIMIZER_FILE
        write_tensors(optimizer_file, learner.optimizer_state())
        progress.optimizer_sha256 = file_sha256(optimizer_file)
        state = {**asdict(progress), **learner.settings, **learner.state()}
        (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True) + "\n")

    def _resume(self, learner: Learner, kept: Mapping[str, Any]) -> _RunState:
        """Give the learner back what it left, and return how far it was."""
        path = self.last / "state.json"
        if not path.is_file():
            raise InputError(f"{path} must exist to resume, got no such file")
        state: dict[str, Any] = read_checked(path, dict[str, Any], "the state")
        with errors_begin_with(path):
            progress = checked(_RunState, state, "the state", ignore_unknown=True)
            for name, value in learner.settings.items():
                checked(type(value), state.get(name), name)
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
        best = progress.best_update
        if best is not None and not (self.out / "best").is_dir():
            raise InputError(
                f"{self.out} must hold the policy of update {best}, got no folder best"
            )
        learner.restore(state, path)
        optimizer_file = self.last / OPTIMIZER_FILE
        try:
            tensors = read_tensors(optimizer_file, progress.optimizer_sha256)
        except InputError as error:
            raise InputError(f"{error}; name another out to begin a new run") from None
        learner.load_optimizer_state(tensors, optimizer_file)
        self._cut_metrics(progress.update)
        return progress

    def _cut_metrics(self, last_update: int) -> None:
        """Keep the metrics up to the update from which the run is resumed."""
        path = self.out / "metrics.jsonl"
        lines = path.read_bytes().splitlines() if path.is_file() else []
        kept = []
        for number, line in enumerate(lines, start=1):
            update = _update_of(line)
            if update is None and number == len(lines):
                break  # half a line, where the run was killed
            if update is None:
                raise InputError(
                    f"{path}:{number}: a line must be JSON with the number of an update, "
                    f"got {reprlib.repr(line)}: delete the line, and the run can be resumed"
                )
            if update <= last_update:
                kept.append(line + b"\n")
        write_whole(path, b"".join(kept))


def run_of(request: TrainRequest, validate: Validate, trained_on: Mapping[str, Any]) -> TrainingRun:
    """Return the run in a request's folder, new or resumed."""
    return TrainingRun(
        request.out,
        validate=validate,
        trained_on=trained_on,
        progress=request.on_progress,
        resume=True,
    )


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
