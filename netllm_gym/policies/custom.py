"""Policies and predictors of users, made to keep the protocols of `policies/policy.py`.

A user's policy is one of these, and what it sees and answers is as in the public Gymnasium
environment, for N environments at once unless it is a function:

- a class, or a function whose parameter is named `env` (of a predictor also `windows`): it is
  called with the vector environment, or the windows, and makes one of the others;
- an object with `act(observations, rewards, infos)`; `reset(rows, seeds)`, `end(rows,
  observations)` and `name` may be missing;
- an object with `predict(observation)`, as the models of Stable-Baselines3 have it;
- a function of one observation, called once per environment and step.

A predictor has `predict(history, content)` for N windows, or is a function of one window's
`history`, or `history` and `content`. A class whose attribute `sees_native` is true is one of the
package's own: it keeps the whole protocol and sees the problem's native observations.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.envs.rows import row_of
from netllm_gym.errors import InputError
from netllm_gym.typed_json import short


class _Role(NamedTuple):
    """What a user's policy, or predictor, may be, as errors say it."""

    name: str
    parameter: str  # of a function that makes one
    method: str
    of: str  # what a function that is one takes
    kinds: str
    methods: tuple[str, ...]  # one of which an object has
    counts: tuple[int, ...]  # of the parameters of `predict`, or of a function


_POLICY = _Role(
    name="policy",
    parameter="env",
    method="act(observations, rewards, infos) or predict(observation)",
    of="one observation",
    kinds='a name, a folder, "module:Name", a class or a function that makes a policy of its one '
    "parameter env, an object with act(observations, rewards, infos) or with Stable-Baselines3's "
    "predict(observation), or a function of one observation",
    methods=("act", "predict", "limits"),
    counts=(1,),
)
_PREDICTOR = _Role(
    name="predictor",
    parameter="windows",
    method="predict(history, content)",
    of="history, or history and content",
    kinds='a name, a folder, "module:Name", a class or a function that makes a predictor of its '
    "one parameter windows, an object with predict(history, content), or a function of one "
    "history, or of history and content",
    methods=("predict",),
    counts=(1, 2),
)


@dataclass(frozen=True, slots=True)
class CustomFactory:
    """Builds a user's policy for an environment, or a user's predictor for windows.

    It has slots and no `__dict__`, so that `collection/lookahead.py` copies the policies it makes.

    Attributes:
        target: What the user gave.
        name: What tables call the policy; empty for its own name, or that of `target`.
        predicts: Whether it is a predictor.
    """

    target: Any
    name: str
    predicts: bool

    def __post_init__(self) -> None:
        """Refuse what is no policy, as far as that is known before it is built."""
        target, role, is_class = self.target, self._role, isinstance(self.target, type)
        called = own_name(target)
        name = f"{role.name} {called}"
        if any(callable(getattr(target, method, None)) for method in role.methods):
            if not is_class:
                self._check_methods(target)
            elif not (_takes(target, 1) or _takes(target, 0)):
                rule = f"be a class that is called with {role.parameter} alone"
                raise InputError(f"{name} must {rule}, got {called}{_signature_of(target)}")
        elif is_class:
            raise InputError(f"{name} must have {role.method}, got a class without it")
        elif not callable(target):
            raise InputError(f"{role.name} must be {role.kinds}, got {short(target)}")
        elif not (self._is_factory or self._is_function(target)):
            rule = f"be a function of {role.of}, or of {role.parameter} to make a {role.name}"
            raise InputError(f"{name} must {rule}, got {called}{_signature_of(target)}")

    def __call__(self, env: Any) -> Any:
        """Build the policy, or the predictor, that keeps the protocol.

        Raises:
            InputError: If it does not fit, or a factory made something else.
        """
        if getattr(self.target, "sees_native", False):
            return self.target(env) if self._is_factory else self.target
        public = env.public_env() if hasattr(env, "public_env") else env
        made = self.target
        if self._is_factory:
            made = self.target(public) if _takes(self.target, 1) else self.target()
            self._check_methods(made)
        name = self.name or _name_attribute(made) or own_name(self.target)
        if self.predicts:
            return CustomPredictor(made, name)
        return made if hasattr(made, "limits") else CustomPolicy(made, name, env, public)

    @property
    def needs_sequential(self) -> bool:
        """Whether the policy plays one episode after the other, in their order."""
        return bool(getattr(self.target, "needs_sequential", False))

    @property
    def _role(self) -> _Role:
        return _PREDICTOR if self.predicts else _POLICY

    @property
    def _is_factory(self) -> bool:
        """Whether it is called with the environment, or the windows, to make the policy."""
        if isinstance(self.target, type):
            return True
        if any(hasattr(self.target, method) for method in ("act", "predict", "limits")):
            return False
        first = next(iter(_parameters(self.target) or {}), "")
        return first in ("env", self._role.parameter) and _takes(self.target, 1)

    def _is_function(self, target: Any) -> bool:
        return callable(target) and any(_takes(target, count) for count in self._role.counts)

    def _check_methods(self, made: Any) -> None:
        """Refuse an object whose methods are called otherwise, or are missing."""
        role, called = self._role, self.name or own_name(self.target)
        has_act = not self.predicts and callable(getattr(made, "act", None))
        if has_act or callable(getattr(made, "predict", None)):
            method = made.act if has_act else made.predict
            if not any(_takes(method, count) for count in ((3,) if has_act else role.counts)):
                raise InputError(
                    f"{role.name} {called} must have {role.method}, "
                    f"got {method.__name__}{_signature_of(method)}"
                )
        elif (self.predicts or not hasattr(made, "limits")) and not self._is_function(made):
            raise InputError(f"{called} must make a {role.name}, got {short(made)}")


class CustomPolicy:
    """A user's policy in an environment; keeps `policies/policy.py`'s protocol.

    Its answers are checked. Where the environment's native observations are not the public ones,
    observations and actions are translated: `public` is the environment that is played in, as users
    of Gymnasium know it.
    """

    def __init__(self, policy: Any, name: str, env: Any, public: Any) -> None:
        self.name = name
        self.needs_own_episodes = bool(getattr(policy, "needs_own_episodes", False))
        self._public = None if public is env else public
        self._rule = ActionRule(f"policy {name}", public.num_envs, public.single_action_space)
        self._policy = policy
        if not hasattr(policy, "act"):
            kind = _ModelPolicy if hasattr(policy, "predict") else _FunctionPolicy
            self._policy = kind(policy, public, self._rule)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Begin episodes; a policy without `reset` remembers nothing of them."""
        if hasattr(self._policy, "reset"):
            self._policy.reset(rows, seeds)

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> Any:
        """Return the actions of all rows, as the environment takes them."""
        if self._public is None:
            return self._rule.of_rows(self._policy.act(observations, rewards, infos))
        shown, columns = self._public.public_observations(observations)
        actions = self._rule.of_rows(self._policy.act(shown, rewards, {**infos, **columns}))
        return self._public.native_actions(actions)

    def end(self, rows: IntArray, observations: Any) -> None:
        """Tell a policy that wants to know that its episodes ended."""
        if hasattr(self._policy, "end"):
            if self._public is not None:
                observations, _ = self._public.public_observations(observations)
            self._policy.end(rows, observations)


class ActionRule:
    """What the actions of N environments are, to check those that `who`, as errors say, returns."""

    def __init__(self, who: str, num_rows: int, space: spaces.Space[Any]) -> None:
        self._who, self._num_rows = who, num_rows
        self.low, self.high = _bounds(space)

    def of_rows(self, actions: Any) -> IntArray:
        """Return the actions of all rows as an array; one row may leave out its dimension."""
        shape = (self._num_rows, *self.low.shape)
        if self._num_rows == 1 and np.ndim(actions) == self.low.ndim:
            actions = [actions]
        return self._checked(actions, shape)

    def of_one(self, action: Any) -> IntArray:
        """Return the action of one row as an array."""
        return self._checked(action, self.low.shape)

    def _checked(self, given: Any, shape: tuple[int, ...]) -> IntArray:
        try:
            actions = np.asarray(given)
        except (TypeError, ValueError):  # lists of different lengths
            actions = np.asarray(None)
        got = short(given)
        if actions.dtype.kind in "iu":
            if actions.shape == shape:
                outside = (actions < self.low) | (actions > self.high)
                if not outside.any():
                    return actions.astype(np.int64)
                got = str(actions[outside][0])
            else:
                got = f"shape {actions.shape}"
        elif actions.dtype.kind in "fb":
            got = f"{got} of {actions.dtype}"
        numbers = f"whole numbers of shape {shape}" if shape else "one whole number"
        raise InputError(
            f"{self._who} must return {numbers} in {self.low.tolist()}..{self.high.tolist()}, "
            f"got {got}"
        )


class _FunctionPolicy:
    """A function of one observation, asked for each row whose episode has not ended."""

    def __init__(self, function: Callable[[Any], Any], env: Any, rule: ActionRule) -> None:
        self._function, self._rule = function, rule
        self._plays = np.zeros(env.num_envs, np.bool_)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        self._plays[rows] = True

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> IntArray:
        actions = np.tile(self._rule.low, (len(self._plays), *(1,) * self._rule.low.ndim))
        for row in np.flatnonzero(self._plays).tolist():
            actions[row] = self._rule.of_one(self._function(row_of(observations, row)))
        return actions

    def end(self, rows: IntArray, observations: Any) -> None:
        self._plays[rows] = False


class _ModelPolicy:
    """A model with the `predict` of Stable-Baselines3, asked for all rows at once.

    It takes the likeliest action (`deterministic=True`) and is handed the masks of the legal
    actions, its own state and where episodes begin, as far as its `predict` has such parameters.
    """

    def __init__(self, model: Any, env: Any, rule: ActionRule) -> None:
        for part in ("observation_space", "action_space"):
            wanted, known = getattr(env, f"single_{part}"), getattr(model, part, None)
            if known is not None and known != wanted:
                raise InputError(
                    f"{part} of the model {type(model).__name__} must be that of the environment, "
                    f"{short(wanted)}, got {short(known)}"
                )
        parameters = inspect.signature(model.predict).parameters
        self._model, self._masks = model, None
        if "action_masks" in parameters:
            self._masks = getattr(env, "action_masks", None)
        self._remembers = {"state", "episode_start"} <= set(parameters)
        self._options = {"deterministic": True} if "deterministic" in parameters else {}
        self._state: Any = None
        self._begins = np.ones(env.num_envs, np.bool_)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        self._begins[rows] = True

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> Any:
        options: dict[str, Any] = dict(self._options)
        if self._masks is not None:
            options["action_masks"] = self._masks()
        if self._remembers:
            options |= {"state": self._state, "episode_start": self._begins}
        answer = self._model.predict(observations, **options)
        self._begins = np.zeros_like(self._begins)
        if isinstance(answer, tuple) and len(answer) == 2:
            answer, self._state = answer
        return answer

    def __deepcopy__(self, memo: dict[int, Any]) -> "_ModelPolicy":
        """Return a policy that shares the model, which acting does not change."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _begins=self._begins.copy())
        return other


class CustomPredictor:
    """A user's predictor, an object or a function; keeps the `Predictor` protocol."""

    def __init__(self, predictor: Any, name: str) -> None:
        self.name = name
        self._is_function = not hasattr(predictor, "predict")
        self._predict = predictor if self._is_function else predictor.predict
        self._takes_content = _takes(self._predict, 2)

    def predict(self, history: FloatArray, content: Float32Array | None) -> Any:
        """Return the futures of N windows, which `evaluation/prediction.py` checks."""
        if not self._is_function:
            return self._asked(history, content)
        contents = [None] * len(history) if content is None else content
        futures = [
            np.asarray(self._asked(one, shown))
            for one, shown in zip(history, contents, strict=True)
        ]
        shapes = sorted({future.shape for future in futures})
        if len(shapes) > 1:
            raise InputError(
                f"predictor {self.name} must return futures of one shape, got "
                f"{shapes[0]} and {shapes[1]}"
            )
        return np.stack(futures)

    def _asked(self, history: Any, content: Any) -> Any:
        return self._predict(history, content) if self._takes_content else self._predict(history)


def own_name(target: Any) -> str:
    """Return the name of a policy, class or function, or the class of an object."""
    name = _name_attribute(target) or getattr(target, "__name__", None)
    return (name or type(target).__name__).strip("<>")  # of "<lambda>"


def _name_attribute(target: Any) -> str:
    name = getattr(target, "name", None)
    return name if isinstance(name, str) and name.strip() and name.isprintable() else ""


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Say whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # some functions that are written in C do not say
        return True
    return True


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """Return the parameters of a function by name, None where it does not say."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # as some that are written in C, and what is no function
        return None


def _signature_of(function: Callable[..., Any]) -> str:
    """Return the parameters of a function as text, without their types."""
    parameters = _parameters(function)
    if parameters is None:
        return "(...)"
    plain = [each.replace(annotation=each.empty) for each in parameters.values()]
    return str(inspect.Signature(plain))


def _bounds(space: spaces.Space[Any]) -> tuple[IntArray, IntArray]:
    """Return the least and the greatest action of a space of whole numbers."""
    if isinstance(space, spaces.Discrete):
        low, count = np.asarray(space.start), np.asarray(space.n)
    elif isinstance(space, spaces.MultiDiscrete):
        low, count = np.asarray(space.start), np.asarray(space.nvec)
    else:
        raise InputError(f"action_space must be Discrete or MultiDiscrete, got {space}")
    return low.astype(np.int64), (low + count - 1).astype(np.int64)
