"""Workflows of WfCommons; all of them are made up."""

import copy
import gzip
import json
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.cjs.named import workload
from netllm_gym.errors import InputError
from tests.test_readers import FEW, MANY, harmed_bytes, harmed_json

# A split, three tasks of one kind, one of another kind beside them, and a join:
#   split -> work 1, work 2, work 3, log -> join
GRAPH = {
    "split_ID1": ([], 2.0),
    "work_ID2": (["split_ID1"], 5.0),
    "work_ID3": (["split_ID1"], 7.0),
    "work_ID4": (["split_ID1"], 6.5),
    "log_ID5": (["split_ID1"], 0),
    "join_ID6": (["work_ID2", "work_ID3", "work_ID4", "log_ID5"], 1),
}
PARTS = {"workflow": {"machines": [{"nodeName": "a", "cpu": {"speed": 2000}}]}, "name": "made"}


def children_of(name):
    return [child for child, (parents, _) in GRAPH.items() if name in parents]


def old(version):
    """Return the workflow as version 1.3 or 1.4 has it: tasks are called by their names."""
    runtime = "runtime" if version == "1.3" else "runtimeInSeconds"
    tasks = [
        {
            "name": name,
            "id": name[-3:],
            "type": "compute",
            runtime: runtime_s,
            "parents": parents,
            "children": children_of(name),
            "files": [],
        }
        for name, (parents, runtime_s) in GRAPH.items()
    ]
    return {**PARTS, "schemaVersion": version, "workflow": {**PARTS["workflow"], "tasks": tasks}}


def new(version="1.5"):
    """Return the workflow as version 1.5 or 1.6 has it: by ids, with runtimes apart."""
    tasks = [
        {
            "name": name.split("_")[0],
            "id": name,
            "parents": parents,
            "children": children_of(name),
            "inputFiles": [],
        }
        for name, (parents, _) in GRAPH.items()
    ]
    runs = [
        {"id": name, "runtimeInSeconds": runtime_s, "coreCount": 2}
        for name, (_, runtime_s) in reversed(GRAPH.items())
    ]
    execution = {"makespanInSeconds": 9, "executedAt": "2020", "tasks": runs}
    return {
        **PARTS,
        "schemaVersion": version,
        "workflow": {"specification": {"tasks": tasks}, "execution": execution},
    }


@pytest.fixture
def write(tmp_path):
    def put(content, name="run.json"):
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return put


@pytest.mark.parametrize("content", [old("1.3"), old("1.4"), new("1.5"), new("1.6")])
def test_a_workflow_is_a_job_whose_stages_are_tasks_that_are_alike(write, content):
    load = workload(write(content))
    assert (load.name, load.template_names, load.is_recording) == ("run.json", ("run.json",), False)
    # split, the three of work, log, join
    assert load.num_tasks.tolist() == [1, 3, 1, 1]
    assert load.edges.tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]
    # A task of work takes one of the three measured times; a runtime of 0 is a millisecond.
    assert load.durations_ms.tolist() == [2000, 5000, 7000, 6500, 1, 1000]
    assert load.rough_ms.tolist() == [2000, (5000 + 7000 + 6500) / 3, 1, 1000]
    assert load.remarks == (
        "runtimes are those of the machines that ran the tasks, whose speeds are not used",
        "tasks without a runtime, which count as 1 ms: 1",
    )


def test_tasks_that_wait_for_others_or_are_waited_for_by_others_are_stages_of_their_own(write):
    content = old("1.4")
    tasks = content["workflow"]["tasks"]
    tasks.append({"name": "late_ID7", "runtimeInSeconds": 1, "parents": ["work_ID4"]})
    load = workload(write(content))
    # work 4 alone is waited for by late, so the stages are split, work 2 and 3, work 4, log, ...
    assert load.num_tasks.tolist() == [1, 2, 1, 1, 1, 1]
    assert load.edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 4], [2, 4], [2, 5], [3, 4]]


@pytest.mark.parametrize("end", ["parents", "children"])
def test_a_dependency_may_be_told_by_one_of_its_ends(write, end):
    content = new()
    for task in content["workflow"]["specification"]["tasks"]:
        task[end] = []
    assert workload(write(content)).content == workload(write(new())).content


def test_a_folder_of_workflows_is_a_workload(tmp_path, write):
    write(new(), "b.json")
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(old("1.3")).encode()))
    (tmp_path / "README.md").write_text("not a workflow")
    load = workload(tmp_path)
    assert (load.name, load.template_names) == (tmp_path.name, ("a.json.gz", "b.json"))
    assert load.num_tasks.tolist() == [1, 3, 1, 1] * 2
    assert load.choices == (2,)
    write({"kind": "another"}, "c.json")
    with pytest.raises(InputError, match=r"c\.json: the workflow must have schemaVersion, got"):
        workload(tmp_path)


def test_a_file_of_a_folder_that_cannot_be_read_is_named_and_a_folder_in_it_is_passed_over(
    tmp_path, write
):
    write(new(), "b.json")
    (tmp_path / "d.json").mkdir()
    assert workload(tmp_path).template_names == ("b.json",)
    os.mkfifo(tmp_path / "c.json")
    with pytest.raises(InputError, match=r"c\.json must be a file, got a pipe"):
        workload(tmp_path)
    (tmp_path / "a.json").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match=r"a\.json"):
        workload(tmp_path)


def test_a_small_file_takes_little_memory(write):
    path = write(new())
    tracemalloc.start()
    workload(path)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 2**25  # all that a file may have is 2**30


def changed(content, task, **fields):
    content = copy.deepcopy(content)
    content["workflow"]["tasks"][task].update(fields)
    return content


def run_as_well(name):
    content = new()
    content["workflow"]["execution"]["tasks"].append({"id": name, "runtimeInSeconds": 4})
    return content


def without_runtimes():
    content = new()
    content["workflow"]["execution"]["tasks"] = []
    return content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({**old("1.4"), "schemaVersion": "1.2"}, "schemaVersion must be '1.3', '1.4', '1.5' or"),
        ({"workflow": 3, "schemaVersion": "1.4"}, "workflow must be an object, got 3"),
        ({"workflow": {"tasks": []}, "schemaVersion": "1.4"}, r"workflow\.tasks must have tasks"),
        ({"workflow": {}, "schemaVersion": "1.5"}, "workflow must have specification, got"),
        (run_as_well("log_ID5"), "each task of the specification once, got 'log_ID5' twice"),
        (run_as_well("?"), r"each task of the specification once, got '\?' which is none of them"),
        (without_runtimes(), "tasks must have runtimes, got none above 0"),
        (changed(old("1.3"), 1, runtime=-1), r"tasks\[1\]\.runtime.* must be in 0\.\.1000000000"),
        (changed(old("1.3"), 1, runtime="9"), r"tasks\[1\]\.runtime.* must be a valid number"),
        (changed(old("1.4"), 2, name="work_ID2"), "different names, got 'work_ID2' twice"),
        (changed(old("1.4"), 2, parents=["?"]), r"must be tasks, got '\?' of work_ID3"),
        (changed(old("1.4"), 0, parents=["join_ID6"]), "must not run in a circle"),
        (changed(old("1.4"), 0, parents=["split_ID1"]), "must not run in a circle"),
    ],
)
def test_what_is_no_workflow_is_refused(write, content, sentence):
    path = write(content)
    with pytest.raises(InputError, match=sentence) as refusal:
        workload(path)
    assert str(refusal.value).startswith(str(path))


@pytest.mark.parametrize("examples", [10 * FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_whatever_comes_is_read_or_refused(tmp_path, examples):
    path = tmp_path / "run.json.gz"
    wholes = [json.dumps(content).encode() for content in (old("1.3"), old("1.4"), new())]

    @settings(max_examples=examples)
    @given(st.data())
    def body(data):
        kind = data.draw(st.sampled_from([harmed_bytes, harmed_json, harmed_json]))
        harmed = kind(data, data.draw(st.sampled_from(wholes)))
        path.write_bytes(gzip.compress(harmed) if data.draw(st.booleans()) else harmed)
        try:
            load = workload(path)
        except InputError as refusal:
            assert str(path) in str(refusal)  # noqa: PT017
            assert "\n" not in str(refusal)  # noqa: PT017
            return
        assert load.num_tasks.sum() <= len(GRAPH) + 1
        assert load.rough_ms.min() >= 1.0

    body()
