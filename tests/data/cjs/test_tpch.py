"""TPC-H: sums of the preparation by hand, files made here, and the published files."""

import io
import json
import os
import pickle
from hashlib import sha256

import numpy as np
import pytest

from netllm_gym.data.cjs import tpch
from netllm_gym.data.cjs.named import workload
from netllm_gym.data.cjs.workload import FIRST, FRESH, LEVELS, REST, Workload
from netllm_gym.errors import InputError, MissingDataError

NAMES = [
    f"{size}/{kind}_{query}.npy"
    for size in tpch.SIZES
    for query in range(1, tpch.NUM_QUERIES + 1)
    for kind in ("adj_mat", "task_duration")
]


def stage(fresh, first, rest):
    return {"first_wave": first, "fresh_durations": fresh, "rest_wave": rest}


STAGES = {  # level 2 stands first, as in the published files
    0: stage({2: [7], 5: [7, 7, 9]}, {2: [7, 8], 5: [9, 7, 5, 7, 7]}, {2: [3], 5: []}),
    1: stage({2: [], 5: [4, 4]}, {2: [6], 5: [4, 4]}, {2: [1, 2], 5: [3]}),
}


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype.hasobject)
    return file.getvalue()


def durations_file(stages=STAGES):
    holder = np.empty((), object)
    holder[()] = stages
    return npy(holder)


GRAPH = npy(np.array([[0.0, 1.0], [0.0, 0.0]]))


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A folder of files whose hashes are right, and a cache folder beside it."""
    folder = tmp_path / "made"
    hashes = {}
    for number, name in enumerate(NAMES):
        # The rest wave of stage 1 tells the 154 templates apart.
        alone = {**STAGES[1], "rest_wave": {2: [1 + number // 2], 5: [3]}}
        data = GRAPH if "adj" in name else durations_file({0: STAGES[0], 1: alone})
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        hashes[name] = sha256(data).hexdigest()
    monkeypatch.setattr(tpch, "file_hashes", lambda: hashes)
    monkeypatch.setattr(tpch, "cache_folder", lambda: tmp_path / "cache" / "below")
    return folder


def replace_file(folder, name, data):
    """Write a file and let its hash fit, so that the reader itself must hold."""
    (folder / name).write_bytes(data)
    tpch.file_hashes()[name] = sha256(data).hexdigest()


# Preparation --------------------------------------------------------------------------------------


def listed(load, number, wave, level):
    begin = load.list_start[number, wave, LEVELS.index(level)]
    length = load.list_length[number, wave, LEVELS.index(level)]
    return load.durations_ms[begin : begin + length].tolist()


def test_fresh_tasks_are_taken_out_of_the_first_wave():
    edges, stages = tpch.read_edges(GRAPH), tpch.read_durations(durations_file())
    load = Workload.of_jobs("made", [tpch.template_of("one", edges, stages)])
    assert load.edges.tolist() == [[0, 1]]
    # By level 2, which the files name first: 2 + 1 and 1 + 2 tasks.
    assert load.num_tasks.tolist() == [3, 3]
    # Level 5 of stage 0: 9 and two of the three 7 are fresh, in order 5 and the last 7 remain.
    assert listed(load, 0, FRESH, 5) == [7, 7, 9]
    assert listed(load, 0, FIRST, 5) == [5, 7]
    assert listed(load, 0, REST, 5) == []
    # Level 5 of stage 1: all are fresh, so the first tasks of level 2 stand in; 100 is as 5.
    assert listed(load, 1, FIRST, 5) == listed(load, 1, FIRST, 100) == [6]
    # Means over all levels: 7, 7, 7, 9 fresh, 8 and 5, 7 first, 3 rest; 4, 4, 6, 6, 1, 2, 3.
    assert load.rough_ms.tolist() == [(30 + 8 + 12 + 3) / 8, 26 / 7]


def test_the_smallest_level_may_stay_without_first_tasks():
    lists = stage({5: [1], 10: [2]}, {5: [1], 10: [2, 3]}, {5: [4], 10: [5]})
    load = Workload.of_jobs("made", [tpch.template_of("one", [], [lists])])
    assert listed(load, 0, FIRST, 5) == []
    assert listed(load, 0, FIRST, 10) == [3]


# Folders ------------------------------------------------------------------------------------------


def test_queries_are_the_outer_choice(made):
    load = workload(made)
    assert (load.name, load.choices, load.num_templates) == ("tpch", (22, 7), 154)
    assert load.template_names[:8] == (*(f"q1-{size}" for size in tpch.SIZES), "q2-2g")
    for template in (0, 1, 8, 153):
        query, size = divmod(template, 7)
        number = NAMES.index(f"{tpch.SIZES[size]}/task_duration_{query + 1}.npy")
        # 26 / 7 by the mean above, where the rest tasks 1, 2 are one task of its own here.
        assert load.rough_ms[2 * template + 1] == pytest.approx((20 + 3 + 1 + number // 2) / 6)


def test_the_cache_gives_the_same_and_is_made_again(made, tmp_path, monkeypatch):
    first = tpch.read_tpch(made)
    (kept,) = (tmp_path / "cache/below").iterdir()
    whole = kept.read_bytes()
    monkeypatch.setattr(tpch, "_templates", None)  # now the cache alone can answer
    again = tpch.read_tpch(made)
    assert (again.content, again.template_names) == (first.content, first.template_names)
    monkeypatch.undo()
    for broken in (b"", whole[:-30], whole.replace(b"rough_ms", b"rouhg_ms"), b"x" * 99):
        kept.write_bytes(broken)
        with monkeypatch.context() as patch:
            patch.setattr(tpch, "file_hashes", lambda: HASHES(made))
            patch.setattr(tpch, "cache_folder", lambda: kept.parent)
            assert tpch.read_tpch(made).content == first.content
        assert kept.read_bytes() == whole


def HASHES(folder):  # noqa: N802
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in NAMES}


def test_a_cache_that_cannot_be_written_is_no_error(made, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert tpch.read_tpch(made).num_templates == 154


def test_another_list_or_format_is_another_cache(made, monkeypatch):
    before = tpch.cache_file()
    monkeypatch.setattr(tpch, "CACHE_FORMAT", tpch.CACHE_FORMAT + 1)
    other = tpch.cache_file()
    tpch.file_hashes()[NAMES[0]] = "0" * 64
    assert len({before, other, tpch.cache_file()}) == 3


def test_a_file_that_is_missing_or_altered_is_refused_with_and_without_a_cache(made):
    path = made / "50g/task_duration_9.npy"
    whole = path.read_bytes()
    for _ in range(2):
        path.unlink()
        with pytest.raises(
            MissingDataError, match=r"50g/task_duration_9\.npy must be on this machine"
        ):
            tpch.read_tpch(made)
        path.write_bytes(whole.replace(b"first", b"thirs"))
        with pytest.raises(InputError, match=r"task_duration_9\.npy must have SHA-256 .*, got "):
            tpch.read_tpch(made)
        path.write_bytes(whole)
        tpch.read_tpch(made)


class Evil:
    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        (Evil(), r"ask for no name but _reconstruct, dtype, ndarray, got '\w+\.system'"),
        ({0: stage({5: [Evil()]}, {5: [1]}, {5: [1]})}, r"got '\w+\.system'"),
        ({0: np.float64(3)}, "ask for no name but .*scalar'"),
    ],
)
def test_other_pickles_are_refused_and_never_run(made, tmp_path, monkeypatch, stages, sentence):
    monkeypatch.chdir(tmp_path)
    replace_file(made, "20g/task_duration_3.npy", durations_file(stages))
    with pytest.raises(InputError, match=sentence) as refusal:
        tpch.read_tpch(made)
    assert str(refusal.value).startswith(f"{made}/20g/task_duration_3.npy: ")
    assert not (tmp_path / "owned").exists()


# What Python 2 writes before and after the object of an array, as in the published files.
PYTHON_2 = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01)cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    b"\x89]"
)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickles_of_all_pythons_are_read(protocol):
    holder = np.empty((), object)
    holder[()] = STAGES
    data = pickle.dumps(holder, protocol=protocol)
    if protocol == 2:
        data = PYTHON_2 + pickle.dumps(STAGES, protocol=2)[2:-1] + b"atb."
    header = npy(holder)[:128]
    assert tpch.read_durations(header + data) == [STAGES[0], STAGES[1]]


def test_a_missing_folder_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match=r"cjs/tpch must be on this machine, .* cjs/"):
        workload("tpch")


# The published files ------------------------------------------------------------------------------


def test_the_published_files_are_those_of_the_reference(shared):
    published = shared / "reference/cjs"
    load = workload("tpch-valid")
    again = workload("tpch")
    assert (load.name, again.name, again.content) == ("tpch-valid", "tpch", load.content)
    assert (load.max_stages_per_job, len(load.num_tasks)) == (18, 1414)
    tasks = np.add.reduceat(load.num_tasks, load.stage_offset[:-1])
    table = json.loads((published / "tpch_query_table.json").read_text())
    assert len(table) == 154
    for template, row in enumerate(table):
        assert load.template_names[template] == f"q{row['query']}-{row['size']}"
        assert np.diff(load.stage_offset)[template] == row["stages"]
        assert np.diff(load.edge_offset)[template] == row["edges"]
        assert tasks[template] == row["tasks"]
        assert load.work_ms[template] / 1000 == pytest.approx(row["rough_work_exec_s"], abs=5.1e-4)
    # Spec 1: 1378 of the 12710 cleaned lists stay empty and 9330 fresh ones, all levels of the
    # files counted; here each stage has the eight levels that can be drawn.
    empty = load.list_length == 0
    assert not (empty[:, FRESH] & empty[:, FIRST]).any()
    assert empty[:, FIRST].mean() == pytest.approx(1378 / 12710, abs=2e-3)
    assert tpch.file_hashes() == json.loads((published / "tpch_sha256.json").read_text())["files"]


@pytest.mark.usefixtures("shared")
def test_levels_of_query_6_are_its_highest():
    load = workload("tpch")
    number = load.stage_offset[load.template_names.index("q6-2g")]  # levels 2, 5, 10, 12, 13
    lists = [listed(load, number, FRESH, level) for level in LEVELS]
    assert lists[2:] == lists[-1:] * 6
    assert [len(each) for each in lists[:3]] == [5, 10, 12]
