"""Small tables of every problem, played in a moment."""

from netllm_gym.data.abr.synthetic import UniformHold, generate_traces
from netllm_gym.data.abr.traces import write_cooked_trace
from netllm_gym.evaluation.evaluate import evaluate


def abr_table(folder):
    """Return a table of four policies on five traces, which are written to a folder."""
    for number, trace in enumerate(generate_traces(UniformHold(0.3, 3.0), 5, seed=1)):
        write_cooked_trace(folder / f"<i>t{number}", *trace)
    return evaluate("abr", ["lowest", "bba", "robust_mpc", "random"], {"traces": str(folder)})


def cjs_table():
    """Return a table of three policies and the bound on seven arrival seeds of a small cluster."""
    policies = ["fair", "srpt", "fifo_half", "bound"]
    return evaluate("cjs", policies, {"num_executors": 8, "num_jobs": 12}, episodes=7)


def vp_table():
    """Return a table of three predictors on generated head movements."""
    case = {"dataset": "synthetic-test", "history": 5, "future": 10}
    return evaluate("vp", ["hold_last", "velocity", "linear_regression"], case)
