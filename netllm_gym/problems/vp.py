"""Viewport prediction."""

from netllm_gym.problems.problem import CaseOption, Demo, DemoRun, PolicyEntry, PredictionProblem

_PREDICTORS = "netllm_gym.policies.baselines.vp"

VP = PredictionProblem(
    name="vp",
    title="viewport prediction",
    metric="mae_deg",
    metric_unit="degrees, mean over future samples and roll, pitch, yaw",
    components=("mae_published_deg", "rmse_deg", "great_circle_deg"),
    default_case={"dataset": "synthetic", "history": 10, "future": 20, "trim_tail": 30},
    dataset_option="dataset",
    validation={
        "synthetic": "synthetic-valid",
        "jin2022-train": "jin2022-valid",
        "wu2017-train": "wu2017-valid",
    },
    test_dataset="synthetic-test",
    policies={
        "hold_last": PolicyEntry(f"{_PREDICTORS}:HoldLast"),
        "damped_velocity": PolicyEntry(f"{_PREDICTORS}:DampedVelocity"),
        "velocity": PolicyEntry(f"{_PREDICTORS}:Velocity"),
        "velocity_unwrapped": PolicyEntry(f"{_PREDICTORS}:VelocityUnwrapped"),
        "linear_regression": PolicyEntry(f"{_PREDICTORS}:LinearRegression"),
        "linear_regression_unwrapped": PolicyEntry(f"{_PREDICTORS}:LinearRegressionUnwrapped"),
    },
    default_policies=("hold_last", "damped_velocity", "velocity", "linear_regression"),
    case_options={
        "dataset": CaseOption(
            str,
            "A set by name, a folder, or several joined by +.",
            title="head movements",
            names="netllm_gym.data.vp.sets:list_viewport_sets",
            takes_path=True,
        ),
        "history": CaseOption(int, "Samples that are seen, 5 a second."),
        "future": CaseOption(int, "Samples that are predicted."),
        "trim_head": CaseOption(
            int, "First samples of a trace for which nothing is predicted.", True
        ),
        "trim_tail": CaseOption(int, "Last samples of a trace in which no future begins.", True),
        "stride": CaseOption(int, "Samples from one window to the next.", True),
        "euler_order": CaseOption(
            str, "zxy (NetLLM's files) or yxz; left out, that of the files.", True
        ),
        "features": CaseOption(
            str, "Folder with video<v>.npz, features of the videos' frames.", True
        ),
    },
    higher_is_better=False,
    groups="videos and users",
    sample="window",
    method_defaults={"llm": {"updates": 800, "validate_every": 50, "checkpoint_every": 50}},
    windows="netllm_gym.data.vp.sets:load_windows",
    scorer="netllm_gym.evaluation.prediction:score_viewports",
    step_s=0.2,
    networks={"viewport": "netllm_gym.policies.neural.vp:ViewportNetwork"},
    language_model="netllm_gym.policies.llm.vp:VPParts",
    pictures="netllm_gym.report.vp:VPPictures",
    demo=Demo(
        runs={
            "gru-trained": DemoRun("gru", {"updates": 400, "validate_every": 80}),
            "netllm-tiny": DemoRun("llm", {"updates": 200, "validate_every": 40}),
            "netllm-minilm": DemoRun(
                "llm", {"backbone": "minilm", "layers": 3, "updates": 100, "validate_every": 20}
            ),
        },
        options={"threads": 2, "train_stride": 5},
    ),
)
