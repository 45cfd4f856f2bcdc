"""Arguments and options that several commands of `netllm-gym` share."""

from pathlib import Path
from typing import Annotated

import typer

from netllm_gym.cli.options import read_options


def use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take a file's options as the defaults of this command."""
    if path is not None:
        known = {
            flag.removeprefix("--"): parameter.name
            for parameter in context.command.params
            for flag in parameter.opts
            if flag.startswith("--") and parameter.name not in (None, "config_file")
        }
        context.default_map = read_options(path, known)
    return path


ProblemName = Annotated[
    str, typer.Argument(help="The problem: abr, cjs or vp.", show_default=False)
]
Policies = Annotated[
    str | None,
    typer.Option(help="Names, or folders of trained policies, separated by commas."),
]
Traces = Annotated[
    str | None,
    typer.Option(
        help="ABR: a trace set's name, a folder of trace files, or a list of data split; "
        "NAME~12+400 puts 12 altered copies of each trace and 400 generated ones around it."
    ),
]
VideoName = Annotated[
    str | None,
    typer.Option(help="ABR: a video's name, a folder of chunk sizes or a DASH .mpd."),
]
WorkloadName = Annotated[
    str | None,
    typer.Option(help="CJS: synthetic, tpch, a folder of TPC-H files, or a file of jobs."),
]
NumExecutors = Annotated[int | None, typer.Option(help="CJS: executors of the cluster.")]
NumJobs = Annotated[int | None, typer.Option(help="CJS: jobs of an episode.")]
Dataset = Annotated[
    str | None,
    typer.Option(
        help="VP: a set of head movements by name, a folder of them, or several with + between."
    ),
]
History = Annotated[int | None, typer.Option(help="VP: samples that are seen, 5 a second.")]
Future = Annotated[int | None, typer.Option(help="VP: samples that are predicted.")]
TrimHead = Annotated[
    int | None,
    typer.Option(
        help="VP: first samples of a trace that nothing predicts; of train, in validation only."
    ),
]
TrimTail = Annotated[
    int | None,
    typer.Option(help="VP: last samples in which no future begins; of train, in validation only."),
]
Stride = Annotated[int | None, typer.Option(help="VP: samples from one window to the next.")]
EulerOrder = Annotated[
    str | None, typer.Option(help="VP: zxy (NetLLM's files) or yxz; left out, that of the files.")
]
Features = Annotated[
    str | None, typer.Option(help="VP: folder with video<v>.npz, features of the videos' frames.")
]
Device = Annotated[str, typer.Option(help="Where the language model runs: cpu, cuda, ...")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=use_config,
        is_eager=True,
        help="TOML file of options, such as seed = 1; options on the command line win.",
    ),
]
