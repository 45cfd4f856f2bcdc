"""Build the policies of a table; one that does not fit the case costs its own row only."""

from dataclasses import dataclass
from typing import Any

from netllm_gym.files import errors_begin_with
from netllm_gym.policies.loading import LoadedPolicy


@dataclass(frozen=True)
class Unfit:
    """Stands in the place of a policy that could not be built, until it is to play.

    Attributes:
        name: As the policy was asked for.
        error: Why it could not be built.
    """

    name: str
    error: Exception


def built(policy: LoadedPolicy, made_for: Any) -> Any:
    """Return the policy for an environment, or the predictor for windows; `Unfit` if that fails."""
    try:
        with errors_begin_with(policy.name):
            return policy.factory(made_for)
    except Exception as error:
        return Unfit(policy.name, error)
