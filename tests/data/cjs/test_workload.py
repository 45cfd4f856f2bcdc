"""Workloads: what is refused, how jobs are drawn, and recordings from files."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.cjs.named import workload
from netllm_gym.data.cjs.workload import FIRST, FRESH, LEVELS, REST, JobTemplate, Waves, Workload
from netllm_gym.errors import InputError
from tests.envs.cjs.golden import read_golden, recording_of_golden, recording_of_made
from tests.test_readers import FEW, MANY, harmed_bytes, harmed_json

KIND = "netllm-gym cjs recording 1"
MADE = json.loads((Path(__file__).parents[2] / "golden/made_workloads.json").read_text())


def waves(fresh, first, rest):
    return Waves(*({5: wave, 10: wave} for wave in (fresh, first, rest)))


def two_jobs(**changes):
    """A diamond 0 -> 1, 2 -> 3 and a pair of stages, all told a list of durations each."""
    diamond = {
        "name": "diamond",
        "num_tasks": [2, 1, 1, 3],
        "edges": [(1, 3), (0, 2), (0, 1), (2, 3)],
        "durations": [[10.0, 20.0], [30], [40], [50, 60, 70]],
    }
    pair = JobTemplate("pair", [4, 5], [(1, 0)], [waves([1], [2], [3]), [8]])
    return [JobTemplate(**{**diamond, **changes}), pair]


def of_jobs(**changes):
    return Workload.of_jobs("made", two_jobs(**changes))


def test_plain_descriptions_become_arrays():
    load = of_jobs()
    assert (load.num_templates, load.choices, load.is_recording) == (2, (2,), False)
    assert load.stage_offset.tolist() == [0, 4, 6]
    assert load.num_tasks.tolist() == [2, 1, 1, 3, 4, 5]
    # Edges by template and then rows; parents and children are within the job.
    assert load.edges.tolist() == [[0, 1], [0, 2], [1, 3], [2, 3], [1, 0]]
    assert load.edge_offset.tolist() == [0, 4, 5]
    assert load.parent_offset.tolist() == [0, 0, 1, 2, 4, 5, 5]
    assert load.parents.tolist() == [0, 0, 1, 2, 1]
    assert load.child_offset.tolist() == [0, 2, 3, 4, 4, 4, 5]
    assert load.children.tolist() == [1, 2, 3, 3, 0]
    assert (load.max_stages_per_job, load.max_edges_per_job) == (4, 4)
    # Means of the lists: 15, 30, 40, 60; (1 + 2 + 3) / 3 over both levels; 8.
    assert load.rough_ms.tolist() == [15, 30, 40, 60, 2, 8]
    assert load.work_ms.tolist() == [2 * 15 + 30 + 40 + 3 * 60, 4 * 2 + 5 * 8]


def listed(load, stage, wave, level):
    begin = load.list_start[stage, wave, LEVELS.index(level)]
    return load.durations_ms[begin : begin + load.list_length[stage, wave, LEVELS.index(level)]]


def test_a_level_that_is_missing_is_taken_from_the_highest():
    lists = Waves({5: [1], 13: [2, 3]}, {5: [4], 13: [5]}, {5: [], 13: [6]})
    load = Workload.of_jobs("made", [JobTemplate("one", [3], [], [lists])])
    for wave, low, high in ((FRESH, [1], [2, 3]), (FIRST, [4], [5]), (REST, [], [6])):
        assert listed(load, 0, wave, 5).tolist() == low
        assert all(listed(load, 0, wave, level).tolist() == high for level in LEVELS[1:])
    assert len(load.durations_ms) == 6  # each list is kept once
    # The mean is over what was measured, level 13 once.
    assert load.rough_ms[0] == np.mean([1, 2, 3, 4, 5, 6])


def test_arrays_are_frozen_copies():
    mine = np.array([2.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    load = replace(of_jobs(), rough_ms=mine)
    mine[0] = 99
    assert load.rough_ms[0] == 2
    for each in (*fields(Workload), "edges", "edge_offset", "work_ms"):
        value = getattr(load, each if isinstance(each, str) else each.name)
        assert not (isinstance(value, np.ndarray) and value.flags.writeable)


def test_content_tells_what_is_played_and_not_what_it_is_called():
    load = of_jobs()
    assert replace(load, name="other").content == load.content
    assert replace(load, template_names=("a", "b")).content == load.content
    others = [
        replace(load, choices=(2, 1)),
        of_jobs(num_tasks=[2, 1, 1, 4]),
        of_jobs(edges=[(0, 1), (0, 2), (1, 3)]),
        of_jobs(durations=[[10.0, 20.5], [30], [40], [50, 60, 70]]),
        of_jobs(rough_ms=[1, 1, 1, 1]),
    ]
    assert len({load.content, *(other.content for other in others)}) == 6
    played = Workload.of_jobs("made", two_jobs()[:1], arrival_ms=[0])
    assert played.content != Workload.of_jobs("made", two_jobs()[:1]).content


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"num_tasks": [2, 0, 1, 3]},
            r"num_tasks of stage 1 of job diamond must be in 1\.\..*got 0",
        ),
        ({"rough_ms": [1, 1, 0, 1]}, "rough_ms of stage 2 of job diamond must be above 0 .*got 0"),
        ({"rough_ms": [1, 1, np.nan, 1]}, "rough_ms of stage 2 of job diamond .* got nan"),
        ({"rough_ms": [1, 1, 1]}, "rough_ms of job diamond must be one per stage, got 3 for 4"),
        ({"num_tasks": [1]}, "durations of job diamond must be one per stage, got 4 for 1"),
        (
            {"edges": [(0, 4)]},
            r"edges of job diamond must be pairs of stages in 0\.\.3, got \(0, 4",
        ),
        ({"edges": [(0, 1, 2)]}, "edges of job diamond must be pairs"),
        (
            {"edges": [(0, 1), (1, 2), (2, 1)]},
            "edges of stage 1 of job diamond must not run in a ci",
        ),
        ({"edges": [(2, 2)]}, "edges of stage 2 of job diamond must not run in a circle"),
        ({"edges": [(0, 1), (0, 1)]}, "parents of stage 1 of job diamond must differ"),
        (
            {"durations": [[1], [2], [3], [-4]]},
            r"durations of stage 3 of job diamond must be above 0 .* got -4\.0",
        ),
        ({"durations": [[1], [np.inf], [3], [4]]}, "durations of stage 1 .* got inf"),
        (
            {"durations": [[1], [2], [3], waves([], [], [4])]},
            "durations of stage 3 of job diamond must be there for a fresh or a first .* level 5",
        ),
        ({"durations": [[1], [2], [], [4]], "rough_ms": [1] * 4}, "stage 2 .* got none at level 5"),
        (
            {"durations": [[1], [2], [3], Waves({5: [1]}, {5: [1]}, {10: [1]})]},
            "durations of job diamond must have the same levels .*, got others in stage 3",
        ),
    ],
)
def test_a_job_that_breaks_a_rule_is_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        of_jobs(**changes)


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("choices", (3,), r"choices of workload made must be .*, got \(3,\) for 2"),
        ("choices", (-1, -2), "choices of workload made"),
        (
            "arrival_ms",
            np.zeros(1),
            r"arrival_ms of recording made must be one per job, got shape \(1,\)",
        ),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(name, values, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(of_jobs(), **{name: values})


# Drawing ------------------------------------------------------------------------------------------


def test_jobs_are_drawn_in_the_order_of_the_reference():
    jobs = [JobTemplate(str(number), [1], [], [[1.0]]) for number in range(154)]
    load = Workload.of_jobs("made", jobs, (22, 7))
    found = load.draw_jobs(seed=3, num_jobs=9, mean_gap_ms=25_000.0)
    rng = np.random.default_rng(3)  # the slow obvious loop
    clock_ms = 0.0
    for template, arrival_ms in zip(*found, strict=True):
        assert template == rng.integers(22) * 7 + rng.integers(7)
        assert arrival_ms == clock_ms
        clock_ms += rng.exponential(25_000.0)
    assert load.draw_jobs(3, 4, 25_000.0).arrival_ms.tolist() == found.arrival_ms[:4].tolist()


def test_arrivals_are_those_of_the_golden_runs(shared):
    load = workload("tpch")
    paths = sorted((shared / "golden/cjs").glob("*.json.gz"))
    assert len(paths) == 14
    for path in paths:
        run = read_golden(path)
        env, rows = run["env"], run["arrivals"]["rows"]
        jobs = load.draw_jobs(run["seed"], env["job_arrival_cap"], 1 / env["job_arrival_rate"])
        assert jobs.arrival_ms.tolist() == [row[3] for row in rows]
        names = [load.template_names[template] for template in jobs.template]
        assert names == [f"q{query}-{size}" for _, query, size, *_ in rows]
        played = recording_of_golden(path)
        stages = [range(*load.stage_offset[template : template + 2]) for template in jobs.template]
        stages = np.concatenate(stages)
        np.testing.assert_array_equal(played.num_tasks, load.num_tasks[stages])
        np.testing.assert_array_equal(played.rough_ms, load.rough_ms[stages])


def test_a_recording_ignores_the_seed():
    load = recording_of_made(MADE["cases"][0])
    assert load.is_recording
    one, two = (load.draw_jobs(seed, 2, 1.0) for seed in (1, 2))
    for jobs in (one, two):
        assert jobs.template.tolist() == [0, 1]
        assert jobs.arrival_ms.tolist() == [0.0, 135.12230017329532]
    with pytest.raises(InputError, match=r"num_jobs must be at most 3, .* got 4"):
        load.draw_jobs(0, 4, 1.0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, 0, 1.0), "num_jobs must be at least 1, got 0"),
        ((-1, 1, 1.0), "seed must be at least 0, got -1"),
        ((0, 1, 0.0), r"mean_gap_ms must be above 0 .*got 0\.0"),
        ((0, 1, float("nan")), "mean_gap_ms must be above 0 .*got nan"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        of_jobs().draw_jobs(*arguments)


# By name and from files ---------------------------------------------------------------------------


def test_names_paths_and_workloads_are_taken(tmp_path):
    load = of_jobs()
    assert workload(load) is load
    one, other = workload("synthetic"), workload("synthetic-valid")
    assert (one.name, other.name) == ("synthetic", "synthetic-valid")
    assert one.content == other.content
    (tmp_path / "x.txt").touch()
    for spec, sentence in (
        ("sinthetic-valid", "got 'sinthetic-valid', did you mean synthetic-valid?"),
        (tmp_path / "none.json", "workload must be a folder, a file or one of synthetic, "),
        (tmp_path / "x.txt", r"workload must be one of \.json, .*\.csv\.gz, got .*x\.txt"),
        (tmp_path, "workload must be a folder of TPC-H, with 2g, .*, 100g, or of workflows, with"),
        (3, "workload must be a name, a path or a Workload, got 3"),
    ):
        with pytest.raises(InputError, match=sentence):
            workload(spec)


def written(case):
    """Return a made case as the content of a file."""
    lists = [[[0.0] * count for count in job["tasks"]] for job in case["jobs"]]
    for job, stage, k, duration_ms in case["durations"]:
        lists[job][stage][k] = duration_ms
    jobs = [
        {**{key: value for key, value in job.items() if key != "job"}, "durations_ms": durations}
        for job, durations in zip(case["jobs"], lists, strict=True)
    ]
    return {"kind": KIND, "jobs": jobs}


@pytest.mark.parametrize("case", MADE["cases"], ids=lambda case: str(case["seed"]))
def test_a_recording_is_read_from_its_file(tmp_path, case):
    path = tmp_path / "case.json"
    path.write_text(json.dumps(written(case)))
    load = workload(path)
    assert load.name == "case.json"
    assert load.content == recording_of_made(case).content
    assert load.arrival_ms.tolist() == [job["arrival_ms"] for job in case["jobs"]]
    for stage, count in enumerate(load.num_tasks):
        assert len(listed(load, stage, FRESH, 5)) == count


def broken(key, value):
    content = written(MADE["cases"][0])
    content["jobs"][1][key] = value
    return content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], r"the recording must be an object, got \[\]"),
        ({"kind": KIND[:-1]}, "kind must be 'netllm-gym cjs recording 1', got"),
        ({"kind": KIND}, r"the recording must have jobs, got \['kind'\]"),
        ({"kind": KIND, "jobs": []}, r"jobs must be a list of jobs, got \[\]"),
        ({"kind": KIND, "jobs": [3]}, r"jobs\[0\] must be an object, got 3"),
        (
            {"kind": KIND, "jobs": [{"tasks": [1]}]},
            r"jobs\[0\] must have arrival_ms, got \['tasks'\]",
        ),
        (broken("more", 1), r"jobs\[1\] must have no unknown field, got 'more'"),
        (broken("arrival_ms", 1e9), "arrival_ms of recording case.json must begin at 0, not fall"),
        (
            broken("arrival_ms", "0"),
            r"jobs\[1\]\.arrival_ms must be a valid number, got '0'",
        ),
        (
            broken("arrival_ms", float("nan")),
            r"jobs\[1\]\.arrival_ms must be a finite number, got nan",
        ),
        (broken("tasks", [5, 4.0]), r"jobs\[1\]\.tasks\[1\] must be a valid integer, got 4\.0"),
        (broken("tasks", [5, 10**30]), r"jobs\[1\]\.tasks\[1\] must be in 0\.\.10000000, got 1000"),
        (
            broken("tasks", [5, 3]),
            "durations of stage 1 of job 1 must be one per task .*got 4 for 3",
        ),
        (
            broken("edges", [[0, 1.0]]),
            r"jobs\[1\]\.edges\[0\]\[1\] must be a valid integer, got 1\.0",
        ),
        (broken("edges", [[0, 2]]), "edges of job 1 must be pairs"),
        (broken("edges", 3), r"jobs\[1\]\.edges must be a valid array, got 3"),
        (
            broken("rough_ms", [1, True]),
            r"jobs\[1\]\.rough_ms\[1\] must be a valid number, got True",
        ),
        (
            broken("durations_ms", [[1], 2]),
            r"jobs\[1\]\.durations_ms\[1\] must be a valid array, got 2",
        ),
    ],
)
def test_other_recordings_are_refused(tmp_path, content, sentence):
    path = tmp_path / "case.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence) as refusal:
        workload(path)
    assert str(refusal.value).startswith(str(path))


def content_of(load):
    """Return a recording as the content of a file."""
    jobs = []
    for job, arrival_ms in enumerate(load.arrival_ms.tolist()):
        stages = range(*load.stage_offset[job : job + 2].tolist())
        edges = load.edges[slice(*load.edge_offset[job : job + 2])]
        jobs.append(
            {
                "arrival_ms": arrival_ms,
                "tasks": load.num_tasks[stages].tolist(),
                "edges": edges.tolist(),
                "rough_ms": load.rough_ms[stages].tolist(),
                "durations_ms": [listed(load, stage, FRESH, 5).tolist() for stage in stages],
            }
        )
    return {"kind": KIND, "jobs": jobs}


@pytest.mark.parametrize("examples", [10 * FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_whatever_comes_is_a_recording_or_refused(tmp_path, examples):
    path = tmp_path / "case.json"
    whole = json.dumps(written(MADE["cases"][1])).encode()

    @settings(max_examples=examples)
    @given(st.data())
    def body(data):
        kind = data.draw(st.sampled_from([harmed_bytes, harmed_json, harmed_json]))
        path.write_bytes(kind(data, whole))
        try:
            load = workload(path)
        except InputError as refusal:
            assert str(path) in str(refusal)  # noqa: PT017
            assert "\n" not in str(refusal)  # noqa: PT017
            return
        assert load.is_recording
        assert load.arrival_ms[0] == 0
        assert (np.diff(load.arrival_ms) >= 0).all()
        for values in (load.num_tasks, load.rough_ms, load.durations_ms):
            assert np.isfinite(values).all()
            assert (values > 0).all()
        assert (np.diff(load.edges, axis=1) != 0).all()
        again = path.with_name("again.json")
        again.write_text(json.dumps(content_of(load)))
        assert workload(again).content == load.content

    body()
