"""What a command says of an error: one sentence and an exit status."""

import errno
import re
import site
import sysconfig
import traceback
from pathlib import Path
from typing import NamedTuple

from typer.exceptions import TyperException

from netllm_gym.cli.doctor import EXTRA_OF, how_to_install
from netllm_gym.cli.train import methods_with_option
from netllm_gym.errors import InputError, nearest
from netllm_gym.files import one_line

# What Python and torch say, as a RuntimeError, of a machine that gives no memory.
STARVED = ("can't start new thread", "can't allocate memory", "not enough memory")
WRONG_NAMES = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOENT)
PACKAGE = Path(__file__).parents[1]
_NOT_THE_USERS = (
    str(PACKAGE),
    "<frozen ",
    sysconfig.get_path("stdlib"),
    *{sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()},
)


class Failure(NamedTuple):
    """What went wrong, and whose fault it is."""

    sentence: str
    status: int  # 1: the machine failed; 2: the input is wrong


def failure(error: Exception) -> Failure | None:
    """Return what to say of an error; None if it is a fault of this package."""
    if isinstance(error, TyperException):
        return Failure(_wrong_usage(error), 2)
    if isinstance(error, InputError):
        return Failure(str(error), 2)
    if isinstance(error, ModuleNotFoundError):
        return Failure(_without_module(error), 2)
    if sentence := _of_a_users_policy(error):
        return Failure(sentence, 2)
    if isinstance(error, ImportError):
        return Failure(f"a library cannot be loaded on this machine: {one_line(error)}", 1)
    is_starved = isinstance(error, RuntimeError) and any(told in str(error) for told in STARVED)
    if isinstance(error, MemoryError) or is_starved:
        return Failure(f"this machine has too little memory for that: {one_line(error)}", 1)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        status = 2 if error.errno in WRONG_NAMES else 1
        return Failure(f"{where}{error.strerror or one_line(error)}", status)
    return None


def _wrong_usage(error: TyperException) -> str:
    """Return typer's sentence, with what was meant where an option or a command is unknown."""
    told, context = error.format_message(), getattr(error, "ctx", None)
    if context is None:
        return told
    if hasattr(error, "possibilities"):
        option, command = getattr(error, "option_name", ""), context.info_name
        trains = context.parent is not None and context.parent.info_name == "train"
        if trains and (methods := methods_with_option(option)):
            return f"{option} is an option of {', '.join(methods)}, not of {command}"
        known = [flag for each in context.command.params for flag in each.opts]
        return f"No such option: {option}{nearest(option, known)}"
    if unknown := re.match(r"No such command '(.*?)'\.", told):
        known = context.command.list_commands(context)
        return f"No such command {unknown[1]!r}{nearest(unknown[1], known)}"
    return told


def _without_module(error: ModuleNotFoundError) -> str:
    """Return a sentence on a module that is not installed, with an extra that brings it, if any."""
    extra = EXTRA_OF.get((error.name or "").partition(".")[0])
    if extra is not None:
        return f"{error.name} must be installed, got none: {how_to_install(extra)}"
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [str(frame.f_globals.get("__name__")) for frame in frames]
    importers = [name for name in modules if name.partition(".")[0] != "importlib"]
    return f"{error.name} must be installed, got no such module (it is imported by {importers[-1]})"


def _of_a_users_policy(error: Exception) -> str:
    """Return a sentence on an error that a user's policy or its module raised; nothing if not."""
    from netllm_gym.policies.custom import own_name

    name, ours, file, line = "", "", "", 0  # `ours` is the last module of the package
    place = (str(error.filename), error.lineno) if isinstance(error, SyntaxError) else None
    for frame, line in traceback.walk_tb(error.__traceback__):
        module, file = frame.f_globals.get("__name__", ""), frame.f_code.co_filename
        if not file.startswith(_NOT_THE_USERS):
            place = (file, line)
        elif module == "netllm_gym.policies.custom":
            whose = frame.f_locals.get("self")
            name = name or getattr(whose, "name", "") or own_name(getattr(whose, "target", ""))
        elif module.startswith("netllm_gym."):
            ours = module
    who = f"policy {name}" if name else ""
    if not who and ours == "netllm_gym.policies.loading" and place is not None:
        who = f"the module {Path(place[0]).stem} of a policy"
    in_worker = re.findall(r'File "(.*?)", line (\d+)', str(error.__cause__ or ""))
    if any(file.endswith("policies/custom.py") for file, _ in in_worker):
        who = "a policy in another process"
        place = [each for each in in_worker if not each[0].startswith(_NOT_THE_USERS)][-1]
    if not who or (place is None and file.startswith(str(PACKAGE))):
        return ""
    place = place or (file, line)  # of a package that is installed
    # Python's message of a syntax error names the place, which is said below in any case.
    said = one_line(SyntaxError(error.msg or "") if isinstance(error, SyntaxError) else error)
    return f"{who} raised {type(error).__name__}: {said} ({place[0]}:{place[1]})"
