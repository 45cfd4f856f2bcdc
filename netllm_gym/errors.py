"""The errors of outside input; the command line prints them as a sentence and exits with 2."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input from outside breaks a rule; the message says which rule, where, and what came."""


class MissingDataError(InputError):
    """A named data set, weight file or optional package is not on this machine."""


def nearest(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> str:
    """Return what to add to an error about an unknown name: the known ones most like it, if any.

    `cutoff` is how alike they must be, between 0 and 1.
    """
    found = difflib.get_close_matches(name, list(known), n=most, cutoff=cutoff)
    return f"; did you mean {', '.join(found)}?" if found else ""
