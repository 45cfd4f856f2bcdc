"""The row by which netllm-gym knows congestion control; an entry point names it."""

from netllm_gym.problems.problem import CaseOption, ControlProblem, PolicyEntry

from congestion_control import ENV_ID

CONGESTION_CONTROL = ControlProblem(
    name="cc",
    title="congestion control",
    env_id=ENV_ID,
    metric="utility",
    metric_unit="share of the capacity, less penalties for delay and loss",
    components=("throughput_mbps", "delay_ms", "loss_share"),
    default_case={"links": "synthetic"},
    dataset_option="links",
    validation={"synthetic": "synthetic-valid"},
    test_dataset="synthetic-test",
    interval_over="link",
    policies={
        "random": PolicyEntry("congestion_control.rules:Random"),
        "aimd": PolicyEntry("congestion_control.rules:AIMD"),
        "copa_like": PolicyEntry("congestion_control.rules:CopaLike"),
        "bound": PolicyEntry("congestion_control.rules:Bound"),
    },
    default_policies=("random", "aimd", "copa_like", "bound"),
    bound="bound",
    case_options={
        "links": CaseOption(
            str,
            "A set of links.",
            title="sets of links",
            names="congestion_control.links:list_links",
        )
    },
    language_model="congestion_control.language:CongestionParts",
    offline="netllm_gym.policies.offline.parts:ArrayParts",
    online="congestion_control.learning:CongestionOnline",
    networks={"cc-mlp": "congestion_control.learning:CongestionNetwork"},
    pictures="congestion_control.picture:CongestionPictures",
    method_defaults={
        "ppo": {"updates": 150, "episodes": 32, "epochs": 4, "minibatch": 1600, "gamma": 0.95}
    },
)
