"""What data can be named on this machine, where they are, and what a fetch would bring."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from netllm_gym.data.datasets import DATA_VARIABLE, data_folder
from netllm_gym.data.published import PublishedSet, published
from netllm_gym.problems.index import problems
from netllm_gym.problems.problem import imported


def render_catalogue() -> str:
    """Return the named data sets of every problem, then the published sets, as text."""
    folder = data_folder()
    origin = DATA_VARIABLE if os.environ.get(DATA_VARIABLE) else f"{DATA_VARIABLE} is not set"
    sets = published()
    fetched = [(each.name, _published(each, folder)) for each in sets.sets.values()]
    return "\n".join(
        [
            f"data folder: {folder} ({origin})",
            *_named_values(),
            "",
            f"netllm-gym data fetch NAME brings, from {sets.repository}:",
            *_columns(fetched),
        ]
    )


def _named_values() -> Iterator[str]:
    """Yield a paragraph for each option of a problem's case that has named values."""
    for problem in problems().values():
        for name, option in problem.case_options.items():
            if option.names:
                flag = f"--{name.replace('_', '-')}"
                yield ""
                path = "; a path will do, too" if option.takes_path else ""
                yield f"{option.title} ({flag} of {problem.name}{path}):"
                yield from _columns(imported(option.names)())


def _published(each: PublishedSet, folder: Path) -> str:
    here = sum((folder / file.target).is_file() for file in each.files)
    state = (
        "all here" if here == len(each.files) else f"{here} of them here" if here else "not here"
    )
    return f"{each.title}: {len(each.files)} files, {each.size_bytes / 1e3:,.0f} kB, {state}"


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [f"  {name.ljust(width)}  {words}" for name, words in rows]
