"""Find any policy: by its name, in the folder of a trained one, by an import, or as an object."""

import importlib
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from netllm_gym.configs import check
from netllm_gym.errors import InputError, MissingDataError, nearest
from netllm_gym.policies.custom import CustomFactory, own_name
from netllm_gym.policies.policy import DECODINGS, decoding_of
from netllm_gym.problems.index import add_policy, find_problem
from netllm_gym.problems.problem import (
    PolicyEntry,
    PolicyFactory,
    PredictionProblem,
    Problem,
    imported,
)

PACKAGE = Path(__file__).parents[1]


# Schema of a trained policy's config.json -> what reads its folder. A reader is called with the
# folder, whether actions are drawn (None for the default), the name and the device, as in
# `reader(folder, sampled=None, name="mine", device="cpu")`. It returns a `TrainedPolicyFactory`, or
# raises `InputError` if a file is missing, broken, altered or of another schema.
FOLDER_READERS = {
    "netllm-gym policy 1": "netllm_gym.policies.llm.checkpoint:load_llm_policy",
    "netllm-gym network 1": "netllm_gym.policies.neural.checkpoint:load_network_policy",
    "netllm-gym offline policy 1": "netllm_gym.policies.offline.policy:load_offline_policy",
}
SELECTED_ON_SEEN = " (selected on its training recordings)"  # behind what it was trained on
UNKNOWN = "unknown"  # what a policy was trained on, where nobody said


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy that can be built for any environment, or windows, of its problem.

    Attributes:
        name: As asked for; tables use the built policy's own name.
        factory: Builds it.
        learned: Whether it was trained, as far as is known; baselines are not.
        trained_on: What it was trained on, in words.
        recordings: Names and contents of the recordings that its training saw, as far as is known.
        selected_on: Recordings on which it was chosen as the best.
        sha256: Of a trained policy's files.
        unusual: Options of the case, apart from data, that were not the default in training.
        spec: Name, folder or "module:Name" by which another process finds it; empty if none can.
        made_by: "module:Name" or class name of a user's policy; empty for policies of the problem.
        problem: Short name of the problem that it was loaded for; empty if it may be any.
    """

    name: str
    factory: PolicyFactory
    learned: bool = False
    trained_on: str = ""
    recordings: frozenset[str] = frozenset()
    selected_on: frozenset[str] = frozenset()
    sha256: str = ""
    unusual: Mapping[str, str] = field(default_factory=dict)
    spec: str = ""
    made_by: str = ""
    problem: str = ""

    @property
    def asked_for(self) -> str:
        """What the plan of a pool calls it."""
        return self.spec or self.made_by or self.name


def check_names(names: Iterable[str]) -> None:
    """Refuse equal names: results are told apart by them."""
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(
                f"policies must have different names, got {name!r} {count} times; "
                "a trained policy has the name of its folder, and any other object the name in "
                "its attribute `name`"
            )


def load_policy(policy: Any, problem: str = "abr", device: str = "cpu") -> LoadedPolicy:
    """Find a policy or predictor of a problem by its short name; see `resolve_policy`.

    `factory` of what is returned builds the policy for an environment, or windows.
    """
    return resolve_policy(policy, find_problem(problem), device)


def resolve_policy(policy: Any, problem: Problem, device: str = "cpu") -> LoadedPolicy:
    """Find a policy or predictor.

    Args:
        policy: One of these. A name of the problem's table, or the folder of a trained policy;
            `:sampled` behind it makes a network draw its actions, `:greedy` take the likeliest, and
            without it a network does what is usual for the problem. "package.module:Name", which is
            imported. A class, a function or an object, see `policies/custom.py`. A `LoadedPolicy`.
        problem: The problem.
        device: Where a trained policy of a folder or of the package runs.

    Raises:
        InputError: If it is none of these; of names, the sentence names the nearest ones.
    """
    if isinstance(policy, LoadedPolicy):
        if policy.problem not in ("", problem.name):
            raise InputError(
                f"policy {policy.name} must be one of {problem.name}, got one of {policy.problem}"
            )
        return policy
    return replace(_found_policy(policy, problem, device), problem=problem.name)


def _found_policy(policy: Any, problem: Problem, device: str) -> LoadedPolicy:
    """Find a policy or predictor that is not loaded yet."""
    if not isinstance(policy, str | os.PathLike):
        return _custom_policy(policy, problem)
    text = os.fspath(policy)
    plain, _, suffix = text.partition(":")
    if plain in problem.policies:
        return _named_policy(text, problem, device)
    if Path(plain).is_dir() and (not suffix or suffix in DECODINGS):
        return _trained_policy(Path(plain), problem, suffix, device)
    if suffix and suffix not in DECODINGS:
        return _custom_policy(_imported(text), problem, spec=text)
    hint = nearest(plain, problem.policies, most=3, cutoff=0.4)
    if "/" in text:
        hint = ", and there is no such folder"
    elif "." in text:  # as in my_rules.Middle or my_rules.py
        hint = "; a policy in a module is named module:Name"
    raise InputError(
        f"policy must be a folder or one of {', '.join(problem.policies)}, got {text!r}{hint}"
    )


def register_policy(
    name: str, target: Any, problem: str = "abr", learned: bool = False, trained_on: str = ""
) -> None:
    """Give a policy or predictor a name, under which every command and function knows it.

    A package that is installed needs no call: it names its policies in the entry-point group
    `netllm_gym.policies` as PROBLEM.NAME, for example `"abr.middle" = "my_package.rules:Middle"`.
    The attributes `learned` and `trained_on` of what is named there say what the arguments here do.

    Args:
        name: Letters, digits, `_`, `-` and `.`; a name that was registered before is given anew.
        target: "package.module:Name", or a class, function or object; see `policies/custom.py`.
        problem: Short name of the problem.
        learned: Whether it was trained; baselines, which the others are compared with, are not.
        trained_on: What it was trained on, as tables show it.

    Raises:
        InputError: If the problem has a policy of that name, or `target` is no policy.
    """
    found = find_problem(problem)
    holds = re.fullmatch(r"[\w.-]+", name) is not None
    check(holds, "name", "be of letters, digits, _, - and .", name)
    if isinstance(target, str):
        check(":" in target, "target", 'be "package.module:Name" or an object', target)
    else:
        _custom_policy(target, found)
        target = _import_name(target) or target
    entry = PolicyEntry(target, learned=learned, trained_on=trained_on, is_custom=True)
    add_policy(found, name, entry)


def _named_policy(text: str, problem: Problem, device: str) -> LoadedPolicy:
    """Return the policy of a name in the problem's table."""
    name, _, decoding = text.partition(":")
    entry = problem.policies[name]
    if decoding and not entry.is_folder and not (entry.by_name and entry.learned):
        raise InputError(f"policy {name} must be named without :{decoding}, it decodes nothing")
    if entry.is_folder:
        return _read_policy(weights_folder(name, problem), text, problem, device)
    if entry.is_custom:
        is_text = isinstance(entry.target, str)
        target = _imported(entry.target) if is_text else entry.target
        return _custom_policy(target, problem, spec=name if is_text else "", entry=entry, name=name)
    found = imported(entry.target)
    factory = found(text) if entry.by_name else found
    return LoadedPolicy(text, factory, entry.learned, entry.trained_on, spec=text)


def _custom_policy(
    target: Any,
    problem: Problem,
    spec: str = "",
    entry: PolicyEntry | None = None,
    name: str = "",
) -> LoadedPolicy:
    """Return a user's policy; a registered one has an entry and a name."""
    factory = CustomFactory(target, name, isinstance(problem, PredictionProblem))
    import_name = _import_name(target)
    learned, trained_on = (True, "") if entry is None else (entry.learned, entry.trained_on)
    learned = bool(getattr(target, "learned", learned))
    declared = getattr(target, "trained_on", "")
    trained_on = trained_on or (declared if isinstance(declared, str) else "")
    return LoadedPolicy(
        name or own_name(target),
        factory,
        learned=learned,
        trained_on=trained_on or (UNKNOWN if learned else ""),
        spec=spec or import_name,
        made_by=import_name or getattr(target, "__name__", type(target).__name__),
    )


def _import_name(target: Any) -> str:
    """Return "module:Name" by which another process can import an object, or nothing."""
    module, name = (getattr(target, part, None) for part in ("__module__", "__qualname__"))
    if not isinstance(module, str) or not isinstance(name, str):
        return ""
    found: Any = sys.modules.get(module)
    if module == "__main__" and not hasattr(found, "__file__"):  # typed at a prompt
        return ""
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is target else ""


def _imported(text: str) -> Any:
    """Return what "package.module:Name" names."""
    module, _, name = text.rpartition(":")
    rule = 'be a name, a folder or "package.module:Name"'
    parts = (*module.split("."), *name.split("."))
    check(all(part.isidentifier() for part in parts), "policy", rule, text)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module needs
        raise InputError(
            f"policy must {rule} of a module that can be imported, got {text!r}: there is no "
            f"module {error.name}"
        ) from None
    for part in name.split("."):
        if not hasattr(found, part):
            hint = nearest(part, dir(found))
            raise InputError(
                f"policy {text!r} must name what the module {module} has, got {part}{hint}"
            )
        found = getattr(found, part)
    return found


def weights_folder(name_or_folder: str, problem: Problem, role: str = "policy") -> Path:
    """Return where the weights of a trained policy are: of the package, of a folder or of a run.

    Raises:
        InputError: If there is neither; the error calls the policy by its role.
        MissingDataError: If the package lacks weights that it should have.
    """
    entry = problem.policies.get(name_or_folder)
    if entry is not None and entry.is_folder:
        folder = PACKAGE / str(entry.target)
        if not folder.is_dir():
            raise MissingDataError(
                f"{role} {name_or_folder} must have its weights in {folder}, got none: install "
                "netllm-gym anew"
            )
        return folder
    folder = Path(name_or_folder)
    if not folder.is_dir():
        named = [name for name, each in problem.policies.items() if each.is_folder]
        raise InputError(
            f"{role} must be a folder or one of {', '.join(named)}, got {name_or_folder!r}"
        )
    return _kept_in(folder)


def _kept_in(folder: Path) -> Path:
    """Return the best (else the last) policy of a training run's folder, or a policy's own."""
    parts = [folder / part for part in ("best", "last") if (folder / part).is_dir()]
    return parts[0] if parts else folder


def _trained_policy(folder: Path, problem: Problem, decoding: str, device: str) -> LoadedPolicy:
    """Read a policy's folder, or the best (else the last) policy of a training run's."""
    plain = folder.resolve().name
    if plain in problem.policies:
        raise InputError(
            f"{folder} must not have the name of the policy {plain} of {problem.name}, "
            "got a trained policy; rename the folder"
        )
    text = f"{plain}:{decoding}" if decoding else plain
    loaded = _read_policy(_kept_in(folder), text, problem, device)
    return replace(loaded, spec=f"{folder}:{decoding}" if decoding else str(folder))


def _read_policy(folder: Path, text: str, problem: Problem, device: str) -> LoadedPolicy:
    """Read a policy's folder, whatever kind of policy it holds; `text` is its name."""
    from netllm_gym.policies.checkpoint import policy_sha256, read_schema

    plain, sampled = decoding_of(text)
    schema = read_schema(folder)
    if schema not in FOLDER_READERS:
        known = " or ".join(map(repr, FOLDER_READERS))
        raise InputError(f"{folder / 'config.json'} must have the schema {known}, got {schema!r}")
    read = imported(FOLDER_READERS[schema])
    factory = read(folder, sampled=sampled, name=plain, device=device)
    factory.source = str(folder)
    if factory.sampled != factory.draws_by_default:  # a name says what is unusual
        factory.name = text
    if factory.config.problem != problem.name:
        raise InputError(
            f"{folder} must hold a policy for {problem.name}, got one for {factory.config.problem}"
        )
    provenance = factory.trained_on
    recordings = frozenset(provenance.get("recordings", ()))
    selected_on = frozenset(provenance.get("validation_recordings", ()))
    chosen = SELECTED_ON_SEEN if recordings & selected_on else ""
    return LoadedPolicy(
        factory.name,
        factory,
        learned=True,
        trained_on=str(provenance.get(problem.dataset_option, UNKNOWN)) + chosen,
        recordings=recordings,
        selected_on=selected_on,
        sha256=policy_sha256(folder),
        unusual={
            name: str(provenance[name])
            for name in problem.case_options
            if name in provenance and name not in problem.default_case
        },
        spec=text,
    )
