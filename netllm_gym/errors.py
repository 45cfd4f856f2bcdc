"""The errors of outside input; the command line prints them as a sentence and exits with 2."""


class InputError(ValueError):
    """Input from outside breaks a rule; the message says which rule, where, and what came."""


class MissingDataError(InputError):
    """A named data set, weight file or optional package is not on this machine."""
