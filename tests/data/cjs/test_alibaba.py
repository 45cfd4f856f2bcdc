"""Tables of the Alibaba trace; all rows here are made up."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.cjs.alibaba import COLUMNS, read_alibaba
from netllm_gym.data.cjs.named import workload
from netllm_gym.errors import InputError
from tests.test_readers import FEW, MANY, harmed_bytes


def row(name, job, instances=1, status="Terminated", start=100, end=110):
    return f"{name},{instances},{job},1,{status},{start},{end},100,0.5"


ROWS = [  # the rows of j_1 and j_2 are mixed
    row("R3_1_2", "j_1", 4, start=120, end=125),
    row("M1", "j_1", 7),
    row("task_Nzg3==", "j_2", 2, start=100, end=100),
    row("M2", "j_1", 2, end=101),
    row("MergeTask", "j_2", 3),
]


@pytest.fixture
def table(tmp_path):
    def write(rows):
        path = tmp_path / "batch_task.csv"
        path.write_text("".join(f"{each}\n" for each in rows), "utf-8")
        return path

    return write


def test_names_are_graphs_and_times_are_durations(table):
    load = workload(table(ROWS))
    assert (load.name, load.template_names) == ("batch_task.csv", ("j_1", "j_2"))
    assert not load.is_recording
    assert load.choices == (2,)
    assert load.num_tasks.tolist() == [4, 7, 2, 2, 3]
    # R3_1_2 is the first row of j_1, after M1 (row 1) and M2 (row 2); j_2 has no edges.
    assert load.edges.tolist() == [[1, 0], [2, 0]]
    assert load.edge_offset.tolist() == [0, 2, 2]
    # 5, 10 and 1 s; a task within one second counts as half of one; 10 s.
    assert load.rough_ms.tolist() == [5000, 10_000, 1000, 500, 10_000]
    assert (load.list_length == 1).all()
    assert (load.durations_ms[load.list_start] == load.rough_ms[:, None, None]).all()


def test_blank_lines_are_passed_over(table):
    blank = ["", *ROWS[:2], "", *ROWS[2:], "", ""]
    assert workload(table(blank)).content == workload(table(ROWS)).content


@pytest.mark.parametrize(
    ("name", "parents"),
    [
        ("J4_2_3", [1, 2]),
        ("x4_3_2", [1, 2]),
        ("J4_2_Stg9", [1]),
        ("M4_Stg2", []),
        ("R4_2_", [1]),
        ("J4_2_2", [1]),
        ("Join4_2", []),
        ("4_2", []),
        ("J4_2_a", []),
        ("J4-2", []),
    ],
)
def test_a_name_says_what_a_stage_waits_for(table, name, parents):
    rows = [row("M1", "j"), row("M2", "j"), row("M3", "j"), row(name, "j")]
    load = read_alibaba(table(rows))
    assert load.parents[load.parent_offset[3] :].tolist() == parents


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row("M1", "j"), row("M2", "j", status="Running")], "not wholly Terminated"),
        ([row("M1", "j", status="Failed")], "not wholly Terminated"),
        ([row("M1", "j", instances="")], "without instances"),
        ([row("M1", "j", instances=0)], "without instances"),
        ([row("M1", "j", start=0)], "without times"),
        ([row("M1", "j", end="")], "without times"),
        ([row("M1", "j", start=9, end=8)], "without times"),
        ([row("M1", "j"), row("R1_1", "j")], "with a stage twice"),
        ([row("M1", "j"), row("R3_2", "j")], "with a parent that is not there"),
        ([row("M1_2", "j"), row("M2_1", "j")], "with a circle"),
        ([row("M1_1", "j")], "with a circle"),
        ([row("M1" + "_1" * 24, "j")], "with a name cut off"),
    ],
)
def test_a_job_that_cannot_be_used_is_left_out_and_counted(table, rows, reason):
    assert read_alibaba(table(ROWS)).remarks == ()
    load = read_alibaba(table([*rows, *ROWS]))
    assert load.template_names == ("j_1", "j_2")
    assert load.remarks == (f"1 of 3 jobs left out: 1 {reason}",)
    with pytest.raises(InputError, match=f"must hold a job that can be used, got 1 {reason}"):
        read_alibaba(table(rows))


def test_reading_stops_at_the_most_jobs_but_keeps_all_their_rows(table):
    rows = [row("M1", "a"), row("M1", "b"), row("M1", "c"), row("R2_1", "a"), row("R2_1", "c")]
    load = read_alibaba(table(rows), most_jobs=2)
    assert load.template_names == ("a", "b")
    assert load.stage_offset.tolist() == [0, 2, 3]
    assert load.remarks == ("only the first 2 jobs of the table are read",)
    assert read_alibaba(table(rows), most_jobs=3).remarks == ()
    with pytest.raises(InputError, match="most_jobs must be at least 1, got 0"):
        read_alibaba(table(rows), most_jobs=0)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("M1,1,j,1,Terminated,1,2,100", "line 2 must have 9 columns, got 8"),
        (row("", "j"), "line 2 must name task and job, got '', 'j'"),
        (row("M1", "\x1b"), r"line 2 must name task and job, got 'M1', '\\x1b'"),
        (row("M1", "j", instances="two"), "instance_num in .* line 2 must be a number up to"),
        (row("M1", "j", instances=1.5), r"instance_num in .* line 2 must be whole, got '1\.5'"),
        (row("M1", "j", instances=-1), "instance_num in .* line 2 must be .*got '-1'"),
        (row("M1", "j", instances=10**9), "instance_num in .* line 2 must be .*got '1000000000'"),
        (row("M1", "j", start="1e5"), r"start_time in .* line 2 must be .*got '1e5'"),
        (row("M1", "j", start="nan"), r"start_time in .* line 2 must be .*got 'nan'"),
        (row("M1", "j", end="٣"), "end_time in .* line 2 must be a number"),
        (row("M1", "j", end="9" * 5000), "end_time in .* line 2 must be a number"),
        (row("M1", "j" * 200_000), "line 2 must be a row of a table, got field larger than"),
    ],
)
def test_a_broken_line_is_named(table, line, sentence):
    path = table([ROWS[0], line])
    with pytest.raises(InputError, match=sentence) as refusal:
        read_alibaba(path)
    assert str(path) in str(refusal.value)


def test_other_programs_write_the_table_in_other_ways(tmp_path, table):
    plain = read_alibaba(table(ROWS))
    quoted = "\r\n".join(",".join(f'"{cell}"' for cell in each.split(",")) for each in ROWS)
    floats = "\n".join(
        ",".join(f"{cell}.0" if cell.isdigit() else cell for cell in each.split(","))
        for each in ROWS
    )
    named = "\n".join([",".join(COLUMNS), *ROWS])
    path = tmp_path / "jobs.csv.gz"
    for text in (quoted, floats, named):
        path.write_bytes(gzip.compress(text.encode()))
        assert workload(path).content == plain.content
    path.write_bytes(gzip.compress(quoted.encode())[:-20])
    with pytest.raises(InputError, match=r"jobs\.csv\.gz must be packed by gzip, got"):
        workload(path)


def test_times_may_have_parts_of_a_second(table):
    load = read_alibaba(table([row("M1", "j", start=100.25, end=102.75)]))
    assert load.durations_ms.tolist() == [2500.0]


def test_what_is_no_text_is_refused(tmp_path):
    path = tmp_path / "batch_task.csv"
    path.write_bytes(b"1\xff\n")
    with pytest.raises(InputError, match=":1: a line must be UTF-8 text"):
        read_alibaba(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="must hold a job that can be used, got no job"):
        read_alibaba(path)


@pytest.mark.parametrize("examples", [10 * FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_whatever_comes_is_read_or_refused(table, examples):
    plain = table(ROWS)
    path = plain.with_name("jobs.csv.gz")
    whole = plain.read_bytes()

    @settings(max_examples=examples)
    @given(st.data())
    def body(data):
        if data.draw(st.booleans()):
            path.write_bytes(harmed_bytes(data, gzip.compress(whole)))
        else:
            path.write_bytes(harmed_bytes(data, whole))
        try:
            said = str(path) * (workload(path).num_templates > 0)
        except InputError as refusal:
            said = str(refusal)
        assert str(path) in said
        assert "\n" not in said

    body()
