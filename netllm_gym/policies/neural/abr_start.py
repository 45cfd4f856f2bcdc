"""With what ABR's training by playing begins: a fresh network, or a policy that goes on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from netllm_gym.envs.abr.video import Video
from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import policy_sha256, read_schema
from netllm_gym.policies.neural.abr_mlp import ABRNetwork, ABRNetworkConfig
from netllm_gym.policies.neural.abr_worlds import FORESIGHT
from netllm_gym.policies.neural.checkpoint import load_network
from netllm_gym.policies.neural.networks import Network


class Start(NamedTuple):
    """What training by playing begins with."""

    network: Network
    trained_on: Mapping[str, Any]  # where it comes from, for the run's own


def fresh_start(video: Video, seed: int) -> Start:
    """Return a network of random weights for a video's ladder."""
    ladder_mbps = tuple(video.ladder_mbps.tolist())
    return Start(
        ABRNetwork(ABRNetworkConfig(ladder_mbps, foresight=FORESIGHT, seed=seed)), _trained_on([])
    )


def later_start(policy: Path, critic: Path, video: Video) -> Start:
    """Return a policy that goes on learning.

    Args:
        policy: Folder of a network, which has a critic of its own, or of a language model.
        critic: Folder of the network whose critic judges a language model.
        video: That will be played.

    Raises:
        InputError: If one of them is something else, or for other videos.
    """
    # Transformers are loaded where one goes on, not for every small network.
    from netllm_gym.policies.llm.checkpoint import SCHEMA as LLM_SCHEMA
    from netllm_gym.policies.llm.checkpoint import load_model
    from netllm_gym.policies.llm.playing import PlayingLLM

    if read_schema(policy) == LLM_SCHEMA:
        model, values = load_model(policy)
        judge, of_judge = _network(critic, "critic")
        network: Network = PlayingLLM(model, judge)
        steps, chunks = network.steps_together, video.num_chunks - 1
        if steps != chunks:
            raise InputError(f"start must be of videos of {chunks} decisions, got {steps}")
        sources = [values["trained_on"], of_judge]
        begun = {"start_sha256": policy_sha256(policy), "critic_sha256": policy_sha256(critic)}
    else:
        network, known = _network(policy, "start")
        sources, begun = [known], {"start_sha256": policy_sha256(policy)}
    return Start(network, {**begun, **_trained_on(sources)})


def _trained_on(sources: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the recordings that anything of it was trained on, and the names of their sets."""
    return {
        "recordings": sorted({name for each in sources for name in each.get("recordings", ())}),
        "traces": [str(each["traces"]) for each in sources if each.get("traces")],
    }


def _network(folder: Path, role: str) -> tuple[ABRNetwork, Mapping[str, Any]]:
    """Return a network that plays and sees what is to come, and where it comes from."""
    network, values = load_network(folder)
    if not isinstance(network, ABRNetwork) or network.config.foresight != FORESIGHT:
        raise InputError(f"{role} must be a network that ppo, udr or genet trained, got {folder}")
    return network, values["trained_on"]
