"""Cluster job scheduling."""

from netllm_gym.problems.problem import CaseOption, ControlProblem, Demo, DemoRun, PolicyEntry

_SCHEDULERS = "netllm_gym.policies.baselines.cjs"

CJS = ControlProblem(
    name="cjs",
    title="cluster job scheduling",
    env_id="NetLLM-CJS-v0",
    metric="jct_s",
    metric_unit="seconds from arrival to completion, mean over jobs",
    components=("jct_p95_s", "makespan_s", "utilisation"),
    default_case={"workload": "synthetic", "num_executors": 50, "num_jobs": None},
    dataset_option="workload",
    validation={"synthetic": "synthetic-valid", "tpch": "tpch-valid"},
    test_dataset="synthetic",
    interval_over="arrivals",
    policies={
        "random": PolicyEntry(f"{_SCHEDULERS}:Random"),
        "fifo": PolicyEntry(f"{_SCHEDULERS}:FIFO"),
        "fifo_half": PolicyEntry(f"{_SCHEDULERS}:FIFOHalf"),
        "fair": PolicyEntry(f"{_SCHEDULERS}:Fair"),
        "weighted_fair": PolicyEntry(f"{_SCHEDULERS}:WeightedFair"),
        "sjf_cp": PolicyEntry(f"{_SCHEDULERS}:SJFCP"),
        "srpt": PolicyEntry(f"{_SCHEDULERS}:SRPT"),
        "tuned_srpt": PolicyEntry(f"{_SCHEDULERS}:TunedSRPT"),
        "decima_reference": PolicyEntry(
            "netllm_gym.policies.neural.cjs:decima_reference",
            by_name=True,
            learned=True,
            trained_on="tpch (published weights)",
        ),
        "decima": PolicyEntry("weights/cjs/decima", learned=True),
        "netllm": PolicyEntry("weights/cjs/netllm", learned=True),
        "bound": PolicyEntry(f"{_SCHEDULERS}_bounds:Bound"),
        "bound_sure": PolicyEntry(f"{_SCHEDULERS}_bounds:SureBound"),
    },
    bound="bound",
    case_options={
        "workload": CaseOption(
            str,
            "synthetic, tpch, a folder of TPC-H files or workflows, or a file of jobs.",
            title="workloads",
            names="netllm_gym.data.cjs.named:list_workloads",
            takes_path=True,
        ),
        "num_executors": CaseOption(int, "Executors of the cluster."),
        "num_jobs": CaseOption(int, "Jobs of an episode: 200, or all of a recording."),
        "mean_gap_s": CaseOption(float, "Mean time between arrivals, in seconds.", True),
        "duration_seed": CaseOption(int, "Seed of the durations of tasks.", True),
        "max_stages": CaseOption(int, "Stages that padded observations show.", True),
        "max_jobs": CaseOption(int, "Jobs that padded observations show.", True),
        "max_edges": CaseOption(int, "Edges that padded observations show.", True),
    },
    native={"padded": False},
    networks={"decima": "netllm_gym.policies.neural.cjs:Decima"},
    online="netllm_gym.training.cjs_online:CJSOnline",
    method_defaults={
        "ppo": {"updates": 100, "episodes": 48, "minibatch": 2048, "advantage_limit": 4.0}
    },
    validation_episodes=10,
    shard_episodes=5,
    default_policies=(
        "random",
        "fifo_half",
        "fair",
        "weighted_fair",
        "sjf_cp",
        "srpt",
        "tuned_srpt",
        "bound",
    ),
    metric_over="last",
    higher_is_better=False,
    language_model="netllm_gym.policies.llm.cjs:CJSParts",
    offline="netllm_gym.policies.offline.cjs:CJSParts",
    codec="netllm_gym.pools.cjs",
    pictures="netllm_gym.report.cjs:CJSPictures",
    demo=Demo(
        teachers=("srpt", "sjf_cp", "weighted_fair", "fair"),
        episodes=30,
        runs={"netllm-tiny": DemoRun("llm", {"updates": 150, "validate_every": 50})},
        options={"checkpoint_every": 50, "batch_episodes": 192},
        # Few executors and jobs: less to wait for, and the order of the jobs decides more.
        case={"num_executors": 10, "num_jobs": 20},
    ),
)
