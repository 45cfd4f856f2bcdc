"""Find a policy by its name, or read the folder of a trained one."""

import difflib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from netllm_gym.errors import InputError, MissingDataError
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import (
    PolicyFactory,
    Problem,
    imported,
)

PACKAGE = Path(__file__).parents[1]


FOLDER_READERS = {  # schema of a trained policy's config.json -> what reads its folder
    "netllm-gym policy 1": "netllm_gym.policies.llm.checkpoint:load_llm_policy",
    "netllm-gym network 1": "netllm_gym.policies.neural.checkpoint:load_network_policy",
    "netllm-gym offline policy 1": "netllm_gym.policies.offline.policy:load_offline_policy",
}


class LoadedPolicy(NamedTuple):
    """A policy that can be built for any environment, or windows, of its problem."""

    name: str  # as asked for; tables use the built policy's own name
    factory: PolicyFactory
    learned: bool
    trained_on: str  # in words
    recordings: frozenset[str]  # that its training saw, and their contents, as far as is known
    selected_on: frozenset[str] = frozenset()  # recordings on which it was chosen as the best
    sha256: str = ""  # of a trained policy's files


def check_names(names: Iterable[str]) -> None:
    """Refuse equal names: results are told apart by them."""
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(
                f"policies must have different names, got {name!r} {count} times; "
                "a trained policy has the name of its folder"
            )


def load_policy(name_or_folder: str, problem: str = "abr", device: str = "cpu") -> LoadedPolicy:
    """Find a policy by its name, or read the folder of a trained one.

    `:sampled` behind either makes a network draw its actions, `:greedy` take the likeliest; without
    it does as is usual for the problem. A trained policy, of a folder or of the package, runs on
    `device`.

    Raises:
        InputError: If there is neither; the sentence names the nearest names.
    """
    row = find_problem(problem)
    plain, _, decoding = name_or_folder.partition(":")
    if plain in row.policies:
        entry = row.policies[plain]
        if decoding and not entry.learned:
            raise InputError(
                f"policy {plain} must be named without :{decoding}, it decodes nothing"
            )
        if entry.is_folder:
            return _read_policy(weights_folder(plain, row), plain, row, decoding, device)
        found = imported(entry.target)
        factory = found(name_or_folder) if entry.by_name else found
        return LoadedPolicy(name_or_folder, factory, entry.learned, entry.trained_on, frozenset())
    if Path(plain).is_dir():
        return _trained_policy(Path(plain), row, decoding, device)
    nearest = difflib.get_close_matches(plain, row.policies, n=3, cutoff=0.4)
    hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
    raise InputError(
        f"policy must be a folder or one of {', '.join(row.policies)}, got {name_or_folder!r}{hint}"
    )


def weights_folder(name_or_folder: str, problem: Problem, role: str = "policy") -> Path:
    """Return where the weights of a trained policy are: of the package, of a folder or of a run.

    Args:
        name_or_folder: Of the policy.
        problem: That it is of.
        role: What an error calls it.

    Raises:
        InputError: If there is no such folder and the package has no weights of that name.
        MissingDataError: If the package lacks weights that it should have.
    """
    entry = problem.policies.get(name_or_folder)
    if entry is not None and entry.is_folder:
        folder = PACKAGE / entry.target
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
    return _read_policy(_kept_in(folder), plain, problem, decoding, device)


def _read_policy(
    folder: Path, plain: str, problem: Problem, decoding: str, device: str
) -> LoadedPolicy:
    """Read a policy's folder, whatever kind it is of."""
    from netllm_gym.policies.checkpoint import policy_sha256, read_schema

    if decoding not in ("", "sampled", "greedy"):
        raise InputError(f"decoding must be greedy or sampled, got {decoding!r}")
    schema = read_schema(folder)
    if schema not in FOLDER_READERS:
        known = " or ".join(map(repr, FOLDER_READERS))
        raise InputError(f"{folder / 'config.json'} must have the schema {known}, got {schema!r}")
    read = imported(FOLDER_READERS[schema])
    sampled = None if not decoding else decoding == "sampled"
    factory = read(folder, sampled=sampled, name=plain, device=device)
    if factory.sampled != factory.draws_by_default:  # a name says what is unusual
        factory.name = f"{plain}:{decoding}"
    if factory.config.problem != problem.name:
        raise InputError(
            f"{folder} must hold a policy for {problem.name}, got one for {factory.config.problem}"
        )
    provenance = factory.trained_on
    recordings = frozenset(provenance.get("recordings", ()))
    selected_on = frozenset(provenance.get("validation_recordings", ()))
    chosen = " (selected on its training recordings)" if recordings & selected_on else ""
    return LoadedPolicy(
        factory.name,
        factory,
        learned=True,
        trained_on=str(provenance.get(problem.dataset_option, "unknown")) + chosen,
        recordings=recordings,
        selected_on=selected_on,
        sha256=policy_sha256(folder),
    )
