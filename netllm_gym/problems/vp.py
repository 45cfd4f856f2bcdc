"""Viewport prediction."""

from netllm_gym.problems.problem import PolicyEntry, PredictionProblem

_PREDICTORS = "netllm_gym.policies.baselines.vp"

VP = PredictionProblem(
    name="vp",
    title="viewport prediction",
    metric="mae_deg",
    metric_unit="degrees, mean over future samples and roll, pitch, yaw",
    components=("mae_published_deg", "rmse_deg", "great_circle_deg"),
    default_case={"dataset": "synthetic", "history": 10, "future": 20, "trim_tail": 30},
    worlds="dataset",
    validation={
        "synthetic": "synthetic-valid",
        "jin2022-train": "jin2022-valid",
        "wu2017-train": "wu2017-valid",
    },
    test_worlds="synthetic-test",
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
        "dataset": str,
        "history": int,
        "future": int,
        "trim_head": int,
        "trim_tail": int,
        "stride": int,
        "euler_order": str,
        "features": str,
    },
    higher_is_better=False,
    groups="videos and users",
    sample="window",
    windows="netllm_gym.data.vp.sets:load_windows",
    scorer="netllm_gym.evaluation.prediction:score_viewports",
    step_s=0.2,
)
