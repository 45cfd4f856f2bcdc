"""What netllm-gym needs to know about congestion control, found through an entry point."""

from netllm_gym.problems import ControlProblem, PolicyEntry

from congestion_control import ENV_ID

CONGESTION_CONTROL = ControlProblem(
    name="cc",
    title="congestion control",
    env_id=ENV_ID,
    metric="utility",
    metric_unit="shares of the capacity, less penalties for delay and loss",
    components=("throughput_mbps", "delay_ms", "loss_share"),
    default_case={"links": "synthetic"},
    worlds="links",
    validation={"synthetic": "synthetic-valid"},
    test_worlds="synthetic-test",
    interval_over="link",
    policies={
        "random": PolicyEntry("congestion_control.rules:Random"),
        "aimd": PolicyEntry("congestion_control.rules:AIMD"),
        "bbr_like": PolicyEntry("congestion_control.rules:BBRLike"),
        "copa_like": PolicyEntry("congestion_control.rules:CopaLike"),
        "bound": PolicyEntry("congestion_control.bound:Bound"),
    },
    bound="bound",
    case_options={"links": str},
    default_policies=("random", "aimd", "bbr_like", "copa_like", "bound"),
)
