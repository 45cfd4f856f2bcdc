"""Adaptive bitrate streaming."""

from netllm_gym.data.abr.video import VideoOptions
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import QOES, LinearQoE
from netllm_gym.problems.problem import (
    CaseOption,
    ControlProblem,
    Demo,
    DemoRun,
    PolicyEntry,
    case_options_of,
)

_RULES = "netllm_gym.policies.baselines.abr"
_SMOOTHED = "netllm_gym.policies.baselines.abr_throughput"
_MPC = "netllm_gym.policies.baselines.abr_mpc"
_PLAYER = case_options_of(PlayerConfig())
_ACTORS = PolicyEntry(
    "netllm_gym.policies.neural.abr:reference_actor",
    by_name=True,
    learned=True,
    trained_on="unknown (published weights)",
)

ABR = ControlProblem(
    name="abr",
    title="adaptive bitrate streaming",
    env_id="NetLLM-ABR-v0",
    metric="qoe",
    metric_unit="Mbit/s per chunk",
    components=("bitrate_mbps", "rebuffer_s", "smoothness_mbps"),
    default_case={"traces": "synthetic", "video": "synthetic"},
    dataset_option="traces",
    validation={
        "synthetic": "synthetic-valid",
        "synthetic-uniform": "synthetic-uniform-valid",
        "synthetic-markov": "synthetic-markov-valid",
        "clean-train": "clean-valid",
        "clean-train-fcc": "clean-valid-fcc",
        "clean-train-norway": "clean-valid-norway",
    },
    test_dataset="synthetic-test",
    how_to_split=(
        "netllm-gym data split {} --out splits makes one (splits/train.json, splits/valid.json)"
    ),
    interval_over="recording",
    policies={
        "lowest": PolicyEntry(f"{_RULES}:Lowest"),
        "random": PolicyEntry(f"{_RULES}:Random"),
        "rate_based": PolicyEntry(f"{_RULES}:RateBased"),
        "throughput_rule": PolicyEntry(f"{_SMOOTHED}:ThroughputRule"),
        "festive": PolicyEntry(f"{_SMOOTHED}:Festive"),
        "bba": PolicyEntry(f"{_RULES}:BBA"),
        "bola": PolicyEntry(f"{_RULES}:BOLA"),
        "robust_mpc": PolicyEntry(f"{_MPC}:RobustMPC"),
        "netllm_mpc": PolicyEntry(f"{_MPC}:NetLLMMPC"),
        "genet_reference": _ACTORS,
        "udr_1_reference": _ACTORS,
        "udr_2_reference": _ACTORS,
        "udr_3_reference": _ACTORS,
        "udr_real_reference": _ACTORS,
        "ppo": PolicyEntry("weights/abr/ppo", learned=True),
        "genet": PolicyEntry("weights/abr/genet", learned=True),
        "netllm": PolicyEntry("weights/abr/netllm", learned=True),
        "optimum": PolicyEntry("netllm_gym.policies.baselines.abr_optimum:OptimumPolicy"),
    },
    measure_option="qoe",
    bound="optimum",
    case_options={
        "traces": CaseOption(
            str,
            "A trace set's name, a folder of trace files, or a list that `data split` wrote. "
            "NAME~12+400 adds 12 altered copies of each trace and 400 generated ones.",
            title="trace sets",
            names="netllm_gym.data.abr.catalogue:list_trace_sets",
            takes_path=True,
        ),
        "video": CaseOption(
            str,
            "A video's name, a folder of chunk sizes, or a DASH .mpd.",
            title="videos",
            names="netllm_gym.data.abr.catalogue:list_videos",
            takes_path=True,
        ),
        "noise": CaseOption(bool, "Multiply download times by 0.9 to 1.1."),
        "noise_range": CaseOption(
            tuple[float, ...], "Multiply them by factors from this range, such as 0.8,1.2.", True
        ),
        "qoe": CaseOption(str, f"Measure of QoE: {', '.join(QOES)}. Usually linear.", is_rule=True),
        **case_options_of(LinearQoE(), is_rule=True),
        **_PLAYER,
        "first_rung": _PLAYER["first_rung"]._replace(is_rule=True),
        "start_row": CaseOption(
            int, "Row of its trace in which every episode begins.", is_advanced=True
        ),
        **case_options_of(VideoOptions(), is_rule=True),
    },
    validation_case={"noise": False, "noise_range": None},
    default_policies=("lowest", "random", "rate_based", "bba", "bola", "robust_mpc", "optimum"),
    networks={"abr-memory": "netllm_gym.policies.neural.abr_mlp:ABRNetwork"},
    online="netllm_gym.training.abr_online:ABROnline",
    online_without=("noise", "noise_range"),
    language_model="netllm_gym.policies.llm.abr:ABRParts",
    offline="netllm_gym.policies.offline.abr:ABRParts",
    action_meaning="netllm_gym.envs.abr.vector_env:case_in_words",
    codec="netllm_gym.pools.abr",
    pictures="netllm_gym.report.abr:ABRPictures",
    demo=Demo(
        teachers=("robust_mpc", "bba", "bola", "rate_based"),
        episodes=500,
        runs={
            "netllm-tiny": DemoRun("llm", {"updates": 300, "validate_every": 100}),
            "netllm-minilm": DemoRun(
                "llm", {"backbone": "minilm", "layers": 3, "updates": 240, "validate_every": 80}
            ),
        },
        options={"checkpoint_every": 50},
    ),
)
