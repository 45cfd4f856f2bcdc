"""Online RL in ABR: its network, and episodes over named traces or generated links."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from netllm_gym.configs import check
from netllm_gym.envs.abr.observation import NUM_ROWS
from netllm_gym.errors import InputError
from netllm_gym.policies.neural.abr_mlp import ABRNetwork, ABRNetworkConfig
from netllm_gym.policies.neural.networks import Network
from netllm_gym.problems.problem import ControlProblem, PolicyFactory
from netllm_gym.training.abr_foresight import FORESIGHT, ForesightEnv
from netllm_gym.training.abr_links import GenetEpisodes, UDREpisodes
from netllm_gym.training.online import OnlineParts
from netllm_gym.training.online_config import GenetConfig, PPOConfig, UDRConfig
from netllm_gym.training.ppo import EpisodeSource, Shown

if TYPE_CHECKING:
    from netllm_gym.policies.llm.model import LLMModel


_OF_LINKS = ("rtt_s", "buffer_cap_s", "start_row")  # drawn for each generated link


class ABROnline(OnlineParts):
    """What PPO needs of ABR; with a `UDRConfig`, links are generated."""

    default_critic = "ppo"

    def __init__(self, problem: ControlProblem, case: Mapping[str, Any], config: PPOConfig) -> None:
        noise = case.get("noise", False)
        check(noise is False, "noise", "be left out or False in training", noise)
        noise_range = case.get("noise_range")
        check(noise_range is None, "noise_range", "be left out in training", noise_range)
        case = {name: value for name, value in case.items() if not name.startswith("noise")}
        for name in _OF_LINKS if isinstance(config, UDRConfig) else ():
            value, rule = case.get(name), "be left out of the case where links are generated"
            check(value is None, name, rule, value)
        super().__init__(problem, case, config)
        check(self.baseline == "critic", "baseline", "be critic for abr", self.baseline)
        self._names_traces = "traces" in case
        self._ladder_mbps = tuple(self.env.video.ladder_mbps.tolist())

    def new_network(self, seed: int) -> ABRNetwork:
        """Return a network for the ladder of the video."""
        return ABRNetwork(ABRNetworkConfig(self._ladder_mbps, foresight=FORESIGHT, seed=seed))

    def check_network(self, network: Network, role: str) -> None:
        """Refuse a network for another ladder, or without foresight."""
        if not isinstance(network, ABRNetwork) or network.config.foresight != FORESIGHT:
            raise InputError(
                f"{role} must be a network that ppo, udr or genet trained, got another"
            )
        ladders = (self._ladder_mbps, network.config.ladder_mbps)
        wanted, found = (", ".join(f"{each:g}" for each in ladder) for ladder in ladders)
        if found != wanted:
            raise InputError(f"{role} must be of the ladder {wanted} Mbit/s, got {found}")

    def language_model(self, model: "LLMModel", critic: Network | None) -> Network:
        """Return a language model for videos of the same length; see the base."""
        wanted, found = self.env.video.num_chunks - 1, model.config.max_steps
        check(found == wanted, "init_from", f"be of videos of {wanted} decisions", found)
        return super().language_model(model, critic)

    def make_env(self, num_envs: int) -> ForesightEnv:
        """Make an environment that shows the critic the future of the link."""
        return ForesightEnv(num_envs, **self.loaded_arguments, autoreset_mode="Disabled")

    def episode_source(self) -> EpisodeSource:
        """Return episodes over generated links, or over the traces of the case."""
        if isinstance(self.config, GenetConfig):
            return self._on_links(GenetEpisodes, self.config)
        if isinstance(self.config, UDRConfig):
            return self._on_links(UDREpisodes, self.config)
        return super().episode_source()

    def pretraining_source(self) -> EpisodeSource:
        """Return such episodes without a curriculum, `pretrain_episodes` of them for each update.

        GENET searches for links on which the policy lags behind, which has a use in PPO only.
        """
        if not isinstance(self.config, UDRConfig):
            return super().pretraining_source()
        config = replace(self.config, episodes=self.config.pretrain_episodes)
        return self._on_links(UDREpisodes, config)

    def pretraining_teacher(self, teacher: PolicyFactory) -> PolicyFactory:
        """Return the teacher without foresight."""
        return lambda env: Shown(teacher(env), lambda observations: observations[:, :NUM_ROWS])

    def _on_links(self, kind: type[UDREpisodes], config: UDRConfig) -> UDREpisodes:
        """Return episodes over generated links, and over the traces that the case names."""
        traces = self.env.trace_set.traces if self._names_traces else ()
        return kind(traces, self.env.video, config, self.env.qoe, self.env.players[0])

    def trained_on(self) -> dict[str, Any]:
        """Return the traces, their recordings and the video; generated links have no recordings."""
        if not isinstance(self.config, UDRConfig):
            return super().trained_on()
        if not self._names_traces:
            drawn = {"traces": "generated links", "recordings": [], "video": self.env.video.name}
            return {**drawn, **self.env.unusual}
        named = super().trained_on()
        return {**named, "traces": f"{named['traces']} + generated links"}
