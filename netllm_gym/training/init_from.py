"""With what ABR's training by playing begins: a fresh network, or a policy that goes on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from netllm_gym.data.abr.video import Video
from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import policy_sha256, read_schema
from netllm_gym.policies.loading import weights_folder
from netllm_gym.policies.neural.abr_mlp import ABRNetwork, ABRNetworkConfig
from netllm_gym.policies.neural.checkpoint import SCHEMA, load_network
from netllm_gym.policies.neural.networks import Network
from netllm_gym.problems.problem import ControlProblem
from netllm_gym.training.abr_episodes import FORESIGHT

CRITIC = "ppo"  # of the package, unless another is named


class Start(NamedTuple):
    """What training by playing begins with, and where it comes from."""

    network: Network
    recordings: frozenset[str] = frozenset()  # that anything of it saw or was selected on
    names: Mapping[str, tuple[str, ...]] = {}  # `traces` and `video` that it was trained on
    sha256: Mapping[str, str] = {}  # role -> of the files


def fresh_start(video: Video, seed: int) -> Start:
    """Return a network of random weights for a video's ladder."""
    config = ABRNetworkConfig(_ladder(video), foresight=FORESIGHT, seed=seed)
    return Start(ABRNetwork(config))


def later_start(name: str, critic: str | None, row: ControlProblem, video: Video) -> Start:
    """Return a policy that goes on learning.

    Args:
        name: Of the package, or folder, of a network, which has a critic of its own, or of a
            language model.
        critic: Likewise of the network whose critic judges a language model; None takes `ppo`.
        row: The problem.
        video: That will be played.

    Raises:
        InputError: If one of them is something else, or for other videos.
    """
    folder = weights_folder(name, row, "start")
    if read_schema(folder) == SCHEMA:
        if critic is not None:
            raise InputError(
                f"critic must be left out for a network, which has its own, got {critic!r}"
            )
        network, known = _network("start", folder, video)
        return _start(network, [known], {"start_sha256": policy_sha256(folder)})
    of_critic = weights_folder(critic or CRITIC, row, "critic")
    judge, known = _network("critic", of_critic, video)
    model, trained_on = _playing_model(folder, judge, video)
    hashes = {"start_sha256": policy_sha256(folder), "critic_sha256": policy_sha256(of_critic)}
    return _start(model, [trained_on, known], hashes)


def _network(role: str, folder: Path, video: Video) -> tuple[ABRNetwork, dict[str, Any]]:
    """Return a network that plays a video and sees what is to come, and where it comes from."""
    no_network = f"{role} must be a network that ppo, udr or genet trained, got {folder}"
    if read_schema(folder) != SCHEMA:
        raise InputError(no_network)
    network, values = load_network(folder)
    if not isinstance(network, ABRNetwork) or network.config.foresight != FORESIGHT:
        raise InputError(no_network)
    wanted, found = (_in_words(each) for each in (_ladder(video), network.config.ladder_mbps))
    if found != wanted:
        raise InputError(f"{role} must be of the ladder {wanted} Mbit/s, got {found}")
    return network, values["trained_on"]


def _playing_model(folder: Path, judge: ABRNetwork, video: Video) -> tuple[Network, dict[str, Any]]:
    """Return a language model beside its critic, and where it comes from."""
    # Transformers are loaded where a language model goes on, not for a small network.
    from netllm_gym.policies.llm.checkpoint import load_model
    from netllm_gym.training.llm_ppo import PlayingLLM

    model, values = load_model(folder)
    config = model.config
    rules = {
        "be a policy for abr": (config.problem == "abr", config.problem),
        "be told no returns, which nobody knows beforehand": (
            config.returns.kind == "none",
            config.returns.kind,
        ),
        f"be of a ladder of {video.num_rungs} rungs": (
            config.num_actions == video.num_rungs,
            config.num_actions,
        ),
        f"be of videos of {video.num_chunks - 1} decisions": (
            config.max_steps == video.num_chunks - 1,
            config.max_steps,
        ),
        "have weights of float32 where all of them are trained": (
            (config.backbone.adapt, config.backbone.dtype) != ("full", "bfloat16"),
            config.backbone.dtype,
        ),
    }
    for rule, (holds, found) in rules.items():
        if not holds:
            raise InputError(f"start must {rule}, got {found}")
    return PlayingLLM(model, judge), values["trained_on"]


def _start(
    network: Network, sources: Sequence[Mapping[str, Any]], sha256: Mapping[str, str]
) -> Start:
    """Return a start with all that its parts were trained or selected on."""
    keys = ("recordings", "validation_recordings")
    recordings = {name for each in sources for key in keys for name in each.get(key, ())}
    names = {
        key: tuple(name for each in sources for name in str(each.get(key, "")).split(" + ") if name)
        for key in ("traces", "video")
    }
    return Start(network, frozenset(recordings), names, sha256)


def _ladder(video: Video) -> tuple[float, ...]:
    return tuple(video.ladder_mbps.tolist())


def _in_words(ladder_mbps: Sequence[float]) -> str:
    return ", ".join(f"{each:g}" for each in ladder_mbps)
