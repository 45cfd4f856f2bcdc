"""Arguments and options of `netllm-gym`: those that several commands share, and made ones.

The parts of a case are options because a problem's row names them, and the fields of a config
because its class documents them; nothing of either is written again here.
"""

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand

from netllm_gym.cli.options import read_options
from netllm_gym.configs import Option, from_text
from netllm_gym.errors import InputError
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import CaseOption, Problem


def use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take a file's options as the defaults of this command."""
    if path is not None:
        known = {
            flag.removeprefix("--"): parameter.name
            for parameter in context.command.params
            for flag in parameter.opts
            if flag.startswith("--") and parameter.name not in (None, "config_file", "help_all")
        }
        context.default_map = read_options(path, known)
    return path


class ProblemCommand(TyperCommand):
    """A command with many options, some of which belong to a problem.

    The short help has the first sentence on each of the usual ones. Where a problem is named, the
    help is that of the command made for this problem alone.

    Attributes:
        names: Names of the problems.
        alone: Returns the command made for one of them.
    """

    names: Sequence[str] = ()
    alone: Callable[[str], "ProblemCommand"]
    named: str | None = None
    shows_all = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note which problem is named, since a help is printed before arguments are read."""
        self.named = next((each for each in args if each in self.names), None)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the problem that is named, or of all problems."""
        if self.named is None:
            super().format_help(ctx, formatter)
            return
        alone = self.alone(self.named)
        alone.shows_all = self.shows_all
        alone.format_help(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options as the help that was asked for has them."""
        for each in self.params:
            text = getattr(each, "help", None)
            if self.shows_all:
                each.hidden = False  # type: ignore[attr-defined]
            elif text:
                each.help = _first_sentence(text)  # type: ignore[attr-defined]
        super().format_options(ctx, formatter)


def add_problem_command(
    app: typer.Typer,
    name: str,
    names: Sequence[str],
    make: Callable[[Sequence[str]], Callable[..., Any]],
) -> None:
    """Add a command whose options depend on the problem.

    Args:
        app: What the command is added to.
        name: Name of the command.
        names: Names of the problems.
        make: Returns the command's function for some of the problems; its docstring is the help.
    """

    def alone(problem: str) -> Any:
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        add_problem_command(one, name, [problem], make)
        return typer.main.get_command(one)

    fields = {"names": tuple(names), "alone": staticmethod(alone)}
    app.command(name, cls=type("Command", (ProblemCommand,), fields))(make(names))


def show_all(context: typer.Context, asked: bool) -> None:
    """Print the help with all that there is to say of all options, and end."""
    if asked:
        context.command.shows_all = True  # type: ignore[attr-defined]
        typer.echo(context.get_help())
        raise typer.Exit


def problem_argument(names: Iterable[str]) -> Any:
    """Return the type of the argument that names the problem."""
    return Annotated[
        str,
        typer.Argument(
            help=f"The problem: {', '.join(names)}; PROBLEM --help shows only its options.",
            show_default=False,
        ),
    ]


Device = Annotated[
    str,
    typer.Option(
        help="Device of language models and offline policies, such as cpu or cuda; all others use "
        "the CPU."
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=use_config,
        is_eager=True,
        help="TOML file of options.",
    ),
]
HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        callback=show_all,
        is_eager=True,
        show_default=False,
        help="Show all options in full.",
    ),
]


def case_parameters(
    names: Iterable[str],
    case_of: Callable[[Problem], Mapping[str, Any]],
    without: Callable[[Problem], Container[str]] = lambda _: (),
) -> list[inspect.Parameter]:
    """Return a parameter for each part of the case of some problems.

    Args:
        names: Names of the problems.
        case_of: Returns the case whose parts are the defaults.
        without: Returns the parts that are no options here.
    """
    rows = [find_problem(name) for name in names]
    found: dict[str, CaseOption] = {}
    defaults: dict[str, dict[str, Any]] = {}  # part -> problem -> its default
    for row in rows:
        for name, each in row.case_options.items():
            if name not in without(row):
                found.setdefault(name, each)
                defaults.setdefault(name, {})[row.name] = case_of(row).get(name)
    return [
        plain_parameter(
            name,
            (f"{', '.join(defaults[name])}: " if len(rows) > 1 else "")
            + with_default(each.help, defaults[name]),
            _plain_kind(each.kind),
            is_hidden=each.is_advanced,
        )
        for name, each in found.items()
    ]


def option_parameter(name: str, each: Option, others: Mapping[str, Any]) -> inspect.Parameter:
    """Return a parameter for an option of a config.

    The help has the default of the method, and each problem's of `others` that differs from it.
    """
    usual = _in_words(each.default)
    differ = {row: default for row, default in others.items() if _in_words(default) != usual}
    text = with_default(each.help, {"": each.default, **differ})
    return plain_parameter(name, text, _plain_kind(each.kind), is_hidden=each.is_advanced)


def with_default(text: str, defaults: Mapping[str, Any]) -> str:
    """Return a help with the default of each problem; a single one stands without its problem."""
    told = {problem: words for problem, each in defaults.items() if (words := _in_words(each))}
    shown = "; ".join(
        f"{problem}: {words}" if problem and len(defaults) > 1 else words
        for problem, words in told.items()
    )
    return f"{text} [default: {shown}]" if shown else text


def parsed(each: Option, value: Any) -> Any:
    """Return an option's value as its config takes it: a text with commas becomes a tuple."""
    kinds = [each.kind, *get_args(each.kind)]
    tuples = [kind for kind in kinds if getattr(kind, "__origin__", None) is tuple]
    if not tuples or not isinstance(value, str):
        return value
    if str in kinds and value in ("default", "all-linear"):  # the words that stand alone
        return value
    try:
        return from_text(tuples[0], value)
    except ValueError:
        return value  # refused by the config's own rule, with its name


def with_parameters(*extra: Sequence[inspect.Parameter]) -> Callable[..., Any]:
    """Let a command that takes `**values` offer these parameters as its options."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own = [
            each
            for each in inspect.signature(function, eval_str=True).parameters.values()
            if each.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        last = [each for each in own if each.name in ("config_file", "help_all")]
        first = [each for each in own if each not in last]
        parameters = [*first, *(each for group in extra for each in group), *last]
        for name, count in Counter(each.name for each in parameters).items():
            if count > 1:
                raise InputError(
                    f"options of a command must have different names, got {name} twice"
                )

        @functools.wraps(function)
        def command(**values: Any) -> Any:
            return function(**values)

        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def plain_parameter(
    name: str, text: str, kind: type = str, *, is_hidden: bool = False
) -> inspect.Parameter:
    """Return a keyword parameter that is None unless it is given."""
    option = typer.Option(help=text, show_default=False, hidden=is_hidden)
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _plain_kind(kind: Any) -> type:
    """Return the type in which the command line takes values of a field's type."""
    for plain in (bool, int, float):
        if kind is plain or kind == plain | None:
            return plain
    return str


def _first_sentence(text: str) -> str:
    """Return the first sentence of a help and the default behind it."""
    told, bracket, default = text.partition(" [default: ")
    first = told.partition(". ")[0].rstrip(".") + "."
    return f"{first}{bracket}{default}"


def _in_words(default: Any) -> str:
    """Return a default as a help shows it; nothing for none."""
    if default is None or default == "":
        return ""
    if isinstance(default, tuple):
        return ",".join(f"{each}" for each in default)
    return str(default).lower() if isinstance(default, bool) else str(default)
