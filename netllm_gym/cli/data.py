"""`netllm-gym data`: what is on this machine, and what is brought to it, looked at, or split."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netllm_gym.cli.options import check_json_file, names_in
from netllm_gym.cli.progress import Progress
from netllm_gym.data.datasets import DATA_VARIABLE, data_folder
from netllm_gym.data.published import PublishedSet, find_published, published
from netllm_gym.errors import InputError
from netllm_gym.files import check_can_be_folder, counted, replace_folder, write_whole
from netllm_gym.problems.index import problems
from netllm_gym.problems.problem import imported

if TYPE_CHECKING:  # numpy and pydantic take time to load, and --help needs neither
    from netllm_gym.data.abr.source import Reading

FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        help="cooked, mahimahi, csv, hsdpa, fcc, fcc-httpgetmt, ucc, lumos5g, puffer or sabre; "
        "left out, each file's first line decides.",
    ),
]
TimeUnitOption = Annotated[
    str, typer.Option(help="Where files name none: s, ms, us or ns; left out, s, checked.")
]
RateUnitOption = Annotated[
    str,
    typer.Option(
        help="Where files name none: Mbit/s, kbit/s, bit/s, Gbit/s, byte/s, kbyte/s or Mbyte/s; "
        "left out, Mbit/s, checked."
    ),
]
ColumnsOption = Annotated[
    str,
    typer.Option(help="Columns of CSV files, as time=NAME,rate=NAME or time=NAME,bytes=NAME."),
]

data_app = typer.Typer(
    help="Traces, videos, workloads and head movements on this machine.", no_args_is_help=True
)


@data_app.command("list")
def data_list() -> None:
    """List what can be named, where it is, and what can be fetched.

    Example: netllm-gym data list
    """
    typer.echo(render_catalogue())


@data_app.command("generate")
def data_generate(
    out: Annotated[Path, typer.Option(help="New folder for the traces.")],
    family: Annotated[
        str, typer.Option(help="synthetic, synthetic-uniform or synthetic-markov.")
    ] = ("synthetic"),
    count: Annotated[int, typer.Option(help="Number of traces.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the whole set.")] = 0,
) -> None:
    """Write generated traces as cooked trace files.

    Example: netllm-gym data generate --family synthetic-markov --count 20 --out traces
    """
    from netllm_gym.data.abr.synthetic import FAMILIES, generate_traces
    from netllm_gym.data.abr.traces import write_cooked_trace

    if family not in FAMILIES:
        raise InputError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    check_can_be_folder("out", out)
    if out.exists() and (any(out.iterdir()) or out.samefile(Path.cwd())):
        raise InputError(f"out must be a new or empty folder, not the one you are in, got {out}")
    traces = generate_traces(FAMILIES[family], count, seed)

    def write(folder: Path) -> None:
        for number, trace in enumerate(traces):
            write_cooked_trace(folder / f"{family}-{seed}-{number:04d}", *trace)

    replace_folder(out, write)  # half of the traces would be taken for a whole set
    typer.echo(f"{counted(count, 'trace')} of the family {family} in {out}")


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="fcc, norway, video1 or video2.")],
    to: Annotated[
        Path | None, typer.Option(help="Data folder; the one that is in use if left out.")
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="Folder of a clone of the repository at the pinned commit, or another address of "
            "one; GitHub if left out.",
        ),
    ] = "",
) -> None:
    """Fetch published traces and videos, checked by SHA-256.

    Run the command again after an interruption to resume; altered files are replaced.

    Example: netllm-gym data fetch fcc video1
    """
    from netllm_gym.data.fetch import fetch

    folder = to or data_folder()
    sets = [find_published(name) for name in names]
    for each in sets:
        with Progress(f"fetch {each.name}", "files") as progress:
            done = fetch(each, folder, source, progress.update)
        mended = f", {done.replaced} of them in place of altered ones" if done.replaced else ""
        typer.echo(f"{each.name}: {done.files} files, {done.brought} fetched{mended}, in {folder}")
        for place in each.folders:
            typer.echo(f"  {place}")
        for work in each.cite:
            typer.echo(f"  cite: {work}")
    pinned = published()
    typer.echo(f"from {pinned.repository} at commit {pinned.commit}")
    typer.echo(f"licence: {pinned.licence}")
    if folder.resolve() != data_folder().resolve():
        typer.echo(f"set {DATA_VARIABLE}={folder.resolve()} to use them by name")


@data_app.command("inspect")
def data_inspect(
    name: Annotated[str, typer.Argument(help="A trace set's name, folder or list.")],
    against: Annotated[
        list[str] | None, typer.Argument(help="More sets, compared with it and each other.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything to this file.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the sets to this PNG, SVG or PDF file.")
    ] = None,
    file_format: FormatOption = "",
    time_unit: TimeUnitOption = "",
    rate_unit: RateUnitOption = "",
    columns: ColumnsOption = "",
) -> None:
    """Print statistics of trace sets, and leaks between them.

    Outliers are listed, too.

    A trace leaks if its file is byte-identical to one of the other set, if its capacities are
    contained in one of the other set's traces, if the two overlap (also on other time grids), or
    if their names say the same recording. A trace is counted once, for the first of these that
    holds.

    Format, units and columns are for the files of all sets that are given by a path.

    Example: netllm-gym data inspect fcc-test fcc-train
    """
    from netllm_gym.data.abr.inspection import check_different, inspect, render_inspection
    from netllm_gym.data.abr.picture import check_can_draw, draw_traces
    from netllm_gym.data.abr.sets import load_trace_set

    names = [name, *(against or ())]
    check_different(names)
    check_json_file(json_file)
    if picture is not None:
        check_can_draw(picture)
    reading = _reading(file_format, time_unit, rate_unit, columns)
    by_path = [each for each in names if Path(each).exists()] or names
    sets = {each: load_trace_set(each, reading if each in by_path else None) for each in names}
    inspection = inspect(sets)
    typer.echo(render_inspection(inspection))
    if json_file is not None:
        write_whole(json_file.resolve(), inspection.to_json().encode())
    if picture is not None:
        draw_traces(sets, picture)


@data_app.command("split")
def data_split(
    name: Annotated[str, typer.Argument(help="A trace set's name, folder or list.")],
    out: Annotated[Path, typer.Option(help="New folder for the lists.")],
    by: Annotated[str, typer.Option(help="What stays together: recording.")] = "recording",
    shares: Annotated[
        str, typer.Option(help="Shares of train, valid and test, or of train and test.")
    ] = "0.7,0.15,0.15",
    seed: Annotated[int, typer.Option(help="Seed of the split; equal seeds give equal parts.")] = 0,
) -> None:
    """Split a trace set; no recording is in two parts.

    Writes lists of names and SHA-256, which --traces and data inspect accept as OUT/train.json and
    so on. Pieces belong together if their names say so or if their contents are identical,
    contained in each other, or overlap, also on other time grids.

    Example: netllm-gym data split fcc-train --shares 0.7,0.15,0.15 --seed 0 --out splits/mine
    """
    from netllm_gym.data.abr.recordings import unknown_text
    from netllm_gym.data.abr.sets import load_trace_set
    from netllm_gym.data.abr.splits import split_by_recording

    if by != "recording":
        raise InputError(f"by must be recording, got {by!r}")
    try:
        numbers = [float(share) for share in names_in(shares)]
    except ValueError:
        raise InputError(f"shares must be numbers separated by commas, got {shares!r}") from None
    traces = load_trace_set(name)
    split = split_by_recording(traces, numbers, seed, out)
    for part, kept in split.parts.items():
        typer.echo(
            f"{part}: {counted(len(kept.traces.sha256), 'trace')} of "
            f"{counted(kept.num_recordings, 'recording')} in {out / part}.json"
        )
    notes = traces.remarks
    if split.num_unknown:
        notes += (unknown_text(split.num_unknown, len(traces.traces)),)
    _say(notes)


@data_app.command("convert")
def data_convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A trace file or a folder.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="New folder for the traces.")],
    file_format: FormatOption = "",
    time_unit: TimeUnitOption = "",
    rate_unit: RateUnitOption = "",
    columns: ColumnsOption = "",
) -> None:
    """Write traces of other formats as cooked trace files.

    The formats are described in docs/formats.md.

    Example: netllm-gym data convert curr_webget.csv --out traces/fcc

    Example: netllm-gym data convert oboe/ --time-unit ms --rate-unit kbit/s --out traces/oboe
    """
    from netllm_gym.data.abr.folders import convert_traces

    found = convert_traces(source, out, _reading(file_format, time_unit, rate_unit, columns))
    together_s = sum(float(trace.time_s[-1]) for trace in found.traces)
    typer.echo(f"{counted(len(found.traces), 'trace')}, {together_s:,.0f} s together, in {out}")
    _say(found.remarks)


def _reading(file_format: str, time_unit: str, rate_unit: str, columns: str) -> "Reading | None":
    """Return how trace files are read, or nothing if no option says it."""
    from netllm_gym.data.abr.source import Reading

    if not any((file_format, time_unit, rate_unit, columns)):
        return None
    pairs = [each.split("=", 1) for each in names_in(columns)] if columns else []
    if not all(len(pair) == 2 for pair in pairs) or len(dict(pairs)) < len(pairs):
        raise InputError(f"columns must be as time=NAME,rate=NAME, got {columns!r}")
    return Reading(file_format, time_unit, rate_unit, dict(pairs))


def _say(remarks: Sequence[str]) -> None:
    for remark in remarks:
        typer.echo(f"  {remark}")


@data_app.command("import-pool")
def data_import_pool(
    file: Annotated[Path, typer.Argument(help="NetLLM's exp_pool.pkl.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the pool; run again to resume.")],
    traces: Annotated[
        str | None, typer.Option(help="Traces that were played; needed to train.")
    ] = None,
    video: Annotated[
        str | None,
        typer.Option(help="Video that was played, checked by chunk sizes; needed to train."),
    ] = None,
    noise: Annotated[bool, typer.Option("--noise", help="Download times were noisy.")] = False,
    policy: Annotated[
        str, typer.Option(help="Policy that acted, which the file does not name.")
    ] = "unknown",
) -> None:
    """Make an experience pool of a pickled pool of NetLLM.

    The file is read without unpickling it. It names no traces, video, seeds or policy;
    `train` takes the pool only if traces and video are named here.

    Example: netllm-gym data import-pool exp_pool.pkl --out pools/netllm --traces fcc-train
    --video video1 --policy genet
    """
    from netllm_gym.pools.netllm_pool import import_netllm_pool

    pool = import_netllm_pool(file, out, traces, video, noise, policy)
    typer.echo(
        f"{counted(len(pool), 'episode')}, {counted(pool.num_steps, 'step')} of {policy} in {out}"
    )
    if traces is None:
        typer.echo("what was played is unknown: to train on it, import it with --traces, --video")


@data_app.command("log-reward")
def data_log_reward(
    folder: Annotated[Path, typer.Argument(help="Folder of the logs.", show_default=False)],
    all_lines: Annotated[
        bool, typer.Option("--all-lines", help="Count the first line of each file too.")
    ] = False,
) -> None:
    """Print the mean reward of NetLLM's text logs.

    The reward is the last column; it is counted as NetLLM counts it.

    Example: netllm-gym data log-reward results/mpc
    """
    from netllm_gym.data.abr.netllm_logs import log_reward

    found = log_reward(folder, skip_first_line=not all_lines)
    skipped = "" if all_lines else ", the first of each left out"
    typer.echo(
        f"mean reward {found.mean:.6f} over {found.num_lines} lines of {found.num_files} files"
        f"{skipped}"
    )


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
