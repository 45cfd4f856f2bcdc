"""Cost of one decision of the language model: cached, against recomputing a long context.

The reference recomputes 167 tokens (20 steps of 8 and 7 more) for every decision of every
environment. Here 32 environments decide together and the keys and values of earlier steps are kept.
Both sides use the same backbone and run in turns in one process.

    python benchmarks/llm_decision.py [--backbone minilm] [--threads 1]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig
from netllm_gym.policies.llm.model import LLMModel, inputs_of
from netllm_gym.policies.returns import ReturnSpec

ROUNDS, ROWS, STEPS, CONTEXT = 4, 32, 47, 167
RETURNS = ReturnSpec(kind="none", center=0.0, scale=1.0, target=0.0)


def make_model(backbone: str, layout: str, context_steps: int | None) -> LLMModel:
    adapt = "full" if backbone == "tiny" else "frozen"  # an adapter is merged for acting
    config = LLMConfig(
        problem="abr",
        max_steps=STEPS,
        num_actions=6,
        observation_shape=(6, 6),
        layout=layout,
        context_steps=context_steps,
        backbone=BackboneConfig(backbone, adapt=adapt),
        returns=RETURNS,
    )
    return LLMModel(config).eval().requires_grad_(False)


def make_inputs(num_steps: int) -> dict[str, torch.Tensor]:
    batch = {
        "observations": torch.rand(ROWS, num_steps, 6, 6),
        "returns": torch.rand(ROWS, num_steps),
        "timesteps": torch.arange(num_steps).expand(ROWS, num_steps),
        "mask": torch.ones(ROWS, num_steps, dtype=torch.bool),
        "actions": torch.randint(0, 6, (ROWS, num_steps)),
    }
    return inputs_of(batch)


def recompute(model: LLMModel) -> Callable[[], int]:
    """Return what recomputing costs: the whole context through the backbone, one decision a row."""
    width = model.norm.normalized_shape[0]
    tokens = torch.randn(ROWS, CONTEXT, width)
    mask = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).tril()[None, None]
    places = torch.arange(CONTEXT) % 8 if model.position_rule == "slot" else torch.arange(CONTEXT)
    newest = make_inputs(1)

    def run() -> int:
        model.encoders(newest)
        output = model.backbone(
            inputs_embeds=model.norm(tokens),
            attention_mask=mask,
            position_ids=places[None],
            use_cache=False,
        )
        model.head({model.head.reads: output.last_hidden_state[:, -1:, None]}, newest)
        return 1

    return run


def cached(model: LLMModel) -> Callable[[], int]:
    """Return a whole episode, decision by decision, through the cache."""
    inputs = make_inputs(STEPS)

    def run() -> int:
        cache = model.new_cache(ROWS)
        for step in range(STEPS):
            model({name: each[:, step : step + 1] for name, each in inputs.items()}, cache)
        return STEPS

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    models = {
        "compact (1 token a step), whole episode": make_model(arguments.backbone, "compact", None),
        "netllm (8 tokens a step), 20 steps": make_model(arguments.backbone, "netllm", 20),
        "netllm (8 tokens a step), whole episode": make_model(arguments.backbone, "netllm", None),
    }
    slow = f"recompute {CONTEXT} tokens"
    sides = {slow: recompute(next(iter(models.values())))}
    sides |= {name: cached(model) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with torch.inference_mode():
        for round_ in range(ROUNDS + 1):
            for name, run in sides.items():
                started_s = time.process_time()
                decisions = run()
                if round_:  # the first round warms up
                    seconds[name].append((time.process_time() - started_s) / decisions)
    print(f"{arguments.backbone}, {ROWS} environments, CPU ms per decision of all of them")
    for name, found in seconds.items():
        ratios = [one / ours for one, ours in zip(seconds[slow], found, strict=True)]
        print(
            f"{name:42} {1000 * statistics.median(found):8.1f}   "
            f"1/{statistics.median(ratios):.1f} of recomputing"
        )


if __name__ == "__main__":
    main()
