"""Folders that are read as trained policies, whatever is in them."""

from types import SimpleNamespace

from netllm_gym.policies.baselines.abr import BBA


def read_every_folder(monkeypatch, trained_on):
    """Let every folder be a policy that plays BBA, trained on what `trained_on(name)` says."""
    from netllm_gym.policies.llm import checkpoint  # needs torch

    def load(folder, *, sampled, name, device):
        def factory(env):
            policy = BBA(env)
            policy.name = name
            return policy

        factory.config, factory.trained_on = SimpleNamespace(problem="abr"), trained_on(name)
        factory.sampled = factory.draws_by_default = False
        factory.name = name
        return factory

    monkeypatch.setattr(checkpoint, "load_llm_policy", load)
    schema = "netllm_gym.policies.checkpoint.read_schema"
    monkeypatch.setattr(schema, lambda folder: checkpoint.SCHEMA)
