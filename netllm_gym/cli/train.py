"""`netllm-gym train METHOD PROBLEM`: a command per method, made from its row and its config."""

import inspect
from collections.abc import Container, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from netllm_gym.cli.arguments import (
    ConfigFile,
    HelpAll,
    add_problem_command,
    case_parameters,
    option_parameter,
    parsed,
    plain_parameter,
    problem_argument,
    with_parameters,
)
from netllm_gym.cli.options import names_in
from netllm_gym.cli.progress import Progress
from netllm_gym.configs import Option, options_of
from netllm_gym.errors import InputError, nearest
from netllm_gym.problems.index import find_problem, problems
from netllm_gym.problems.problem import ControlProblem, Problem
from netllm_gym.training.methods import METHODS, Method, find_method, train

Out = Annotated[Path, typer.Option(help="Folder of the run.")]
ValidateOn = Annotated[str | None, typer.Option(help="Data set to choose the best policy on.")]
_FROM_POOLS = {
    "pool": "Experience pools, separated by commas.",
    "policies": "Teachers to learn from. [default: the best]",
}


class MethodGroup(TyperGroup):
    """Makes a method's command when it is asked for, so that no other method's config is loaded."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the methods."""
        return list(dict.fromkeys(each.name for each in METHODS))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a method."""
        if cmd_name.startswith("-"):
            return None
        if cmd_name not in self.commands:
            if cmd_name not in self.list_commands(ctx):
                known = self.list_commands(ctx)
                named = f"{', '.join(known)}, got {cmd_name!r}{nearest(cmd_name, known)}"
                raise InputError(f"method must be one of {named}")
            self.commands[cmd_name] = _command_of(cmd_name)
        return self.commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a line for each method, with the problems that it can learn."""
        with formatter.section("Methods and their problems"):
            formatter.write_dl(
                (f"{each.name} {'|'.join(_problems_of(each))}", each.title) for each in METHODS
            )


train_app = typer.Typer(
    cls=MethodGroup,
    help="Train a policy; run again after an interruption, it is resumed.\n\n"
    "Of a method with two lines, PROBLEM decides which one is meant.\n\n"
    "Example: netllm-gym train llm abr --pool pools/first --backbone minilm --out runs/first",
    subcommand_metavar="METHOD PROBLEM [OPTIONS]",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def _problems_of(method: Method) -> list[str]:
    return [each.name for each in problems().values() if method.suits(each)]


def _command_of(name: str) -> Any:
    """Return the command of a method, whatever it learns from."""
    suited = [problem for each in METHODS if each.name == name for problem in _problems_of(each)]
    names = list(dict.fromkeys(suited))
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    add_problem_command(app, name, names, partial(_function_of, name))
    return typer.main.get_command(app)


def _function_of(name: str, names: Sequence[str]) -> Any:
    """Return the function of a method's command for some problems, with its options and help."""
    methods = [each for each in METHODS if each.name == name and {*_problems_of(each)} & {*names}]
    of_config = _config_parameters(name, names, methods)
    taken = {each.name for each in of_config}  # a range of `udr` counts before a part of the case
    of_data = [each for each in _data_parameters(methods, names) if each.name not in taken]

    @with_parameters(of_data, of_config)
    def command(
        problem: problem_argument(names),  # type: ignore[valid-type]
        out: Out,
        validate_on: ValidateOn = None,
        config_file: ConfigFile = None,
        help_all: HelpAll = False,
        **values: Any,
    ) -> None:
        given = {key: value for key, value in values.items() if value is not None}
        run_method(name, str(problem), out, validate_on, given)

    command.__doc__ = f"{methods[0].title}\n\nExample: netllm-gym train {methods[0].example}"
    return command


def methods_with_option(flag: str) -> list[str]:
    """Return the names of the methods whose command has an option, such as `--backbone`."""
    names = dict.fromkeys(each.name for each in METHODS)
    return [each for each in names if any(flag in own.opts for own in _command_of(each).params)]


def _data_parameters(methods: Sequence[Method], names: Sequence[str]) -> list[inspect.Parameter]:
    """Return the options that say what is learned from: pools, or parts of a case."""
    from_pools = [
        plain_parameter(each, text)
        for each, text in _FROM_POOLS.items()
        if any(method.learns_from == "pool" for method in methods)
    ]

    def without(row: Problem) -> Container[str]:
        """Return the parts of a problem's case that a method does not take."""
        method = find_method(methods[0].name, row)
        if method.learns_from == "pool":
            return row.case_options
        return row.online_without if isinstance(row, ControlProblem) else ()

    return from_pools + case_parameters(names, lambda row: row.default_case, without)


def _config_parameters(
    name: str, names: Sequence[str], methods: Sequence[Method]
) -> list[inspect.Parameter]:
    """Return the options of a method's config, with the defaults of each problem."""
    rows = [find_problem(problem) for problem in names]
    options: dict[str, Option] = {}
    for each in methods:
        its = options_of(each.default_config(rows[0] if len(rows) == 1 else None))
        options = {key: its[key] for key in its if key not in each.without} | options
    of_rows = {row.name: options_of(find_method(name, row).default_config(row)) for row in rows}
    return [
        option_parameter(
            key, each, {row: its[key].default for row, its in of_rows.items() if key in its}
        )
        for key, each in options.items()
    ]


def run_method(
    name: str, problem: str, out: Path, validate_on: str | None, given: dict[str, Any]
) -> None:
    """Train with the options that were given on the command line, and say how it ended."""
    row = find_problem(problem)
    method = find_method(name, row)
    options = options_of(method.default_config(row))
    pool, policies = given.pop("pool", None), given.pop("policies", None)
    config = {key: parsed(options[key], given.pop(key)) for key in [*given] if key in options}
    for key, value in given.items():
        if method.learns_from == "pool" or key not in row.case_options:
            raise InputError(
                f"{key.replace('_', '-')} must be left out for the method {name} of {problem}, "
                f"got {value!r}"
            )
    updates = {**{"updates": options["updates"].default}, **config}["updates"]

    def in_words(score: float) -> str:
        return f"{row.metric} {row.score(score):.4f}"  # the metric with its own sign

    with Progress("train", "updates") as progress:
        result = train(
            problem,
            name,
            out,
            config=config,
            case=given or None,
            pool=None if pool is None else names_in(pool),
            policies=None if policies is None else names_in(policies),
            validate_on=validate_on,
            on_progress=progress.metrics(updates, method.shown, in_words),
        )
    if result.best_score is not None:
        best = in_words(result.best_score)
        typer.echo(f"best after update {result.best_update}: {best} in validation")
    typer.echo(f"policy in {result.policy}")
