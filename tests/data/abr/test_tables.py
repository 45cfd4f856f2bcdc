"""Tables of published measurements: sums by hand from the definitions, and the rest refused."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.abr.source import FORMATS, Reading, Remarks
from netllm_gym.data.abr.traces import read_traces
from netllm_gym.errors import InputError

HTTPGET = (
    "unit_id,dtime,target,address,fetch_time,bytes_total,bytes_sec,bytes_sec_interval,"
    "warmup_time,warmup_bytes,sequence,threads,successes,failures,location_id\n"
)
UCC = "Timestamp,Longitude,Latitude,Speed,NetworkMode,DL_bitrate,UL_bitrate,State\n"
LUMOS5G = "run_num,seq_num,nrStatus,Throughput,mobility_mode,trajectory_direction\n"
PUFFER = "time,session_id,index,expt_id,video_ts,size,rtt,delivery_rate\n"
MADE = {  # tiny files, made up after the descriptions of the sets
    "fcc-httpgetmt": HTTPGET
    + "8,2020-10-01 02:00:00,sp1.example,-,2000000,1,1,250000,1,1,0,8,1,0,1\n"
    + "8,2020-10-01 02:00:00,sp1.example,-,5000000,1,1,500000,1,1,1,8,1,0,1\n",
    "ucc": UCC
    + "2018.01.18_23.59.59,-8.4,51.8,30,LTE,2000,9,D\n"
    + "2018.01.19_00.00.02,-8.4,51.8,30,LTE,500,9,I\n",
    "lumos5g": LUMOS5G + "3,7,NR,120,driving,CW\n3,8,NR,600,driving,CW\n",
    "puffer": PUFFER + "1635199200000000000,abc=,0,1,0,9,1,1000000\n"
    "1635199202500000000,abc=,0,1,180180,9,1,250000\n",
    "sabre": '[{"duration_ms": 1500, "bandwidth_kbps": 800, "latency_ms": 20},\n'
    ' {"duration_ms": 500, "bandwidth_kbps": 0, "latency_ms": 20}]\n',
    "csv": '"Time [ms]","RTT, ms","Throughput (MB/s)"\n0,"1,5",9\n500,"1,5",1\n2000,"1,5",0.5\n',
}
EXPECTED = {  # times in s, and capacities in Mbit/s since the time before
    # 2 s at 250,000 bytes/s, then 3 s at twice that.
    "fcc-httpgetmt": ([0, 2, 5], [2, 4]),
    # A second at 2,000 kbit/s, then 3 s at 500.
    "ucc": ([0, 1, 4], [2, 0.5]),
    "lumos5g": ([0, 1, 2], [120, 600]),
    # A chunk of 2.002 s at 1,000,000 bytes/s, then 2.5 s at 250,000.
    "puffer": ([0, 2.002, 4.502], [8, 2]),
    "sabre": ([0, 1.5, 2], [0.8, 0]),
    # 1 MB/s is 8 Mbit/s.
    "csv": ([0, 0.5, 2], [8, 4]),
}


def write(folder, text, name="log"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path, reading=Reading()):  # noqa: B008
    remarks = Remarks()
    return read_traces(path, reading, remarks=remarks), remarks.sentences()


@pytest.mark.parametrize("file_format", MADE)
def test_each_set_is_read_as_it_is_defined(tmp_path, file_format):
    for packed in (False, True):
        data = MADE[file_format].encode()
        path = write(tmp_path, gzip.compress(data) if packed else data)
        for reading in (Reading(), Reading(file_format)):
            ((trace,), _) = read(path, reading)
            np.testing.assert_allclose(trace.time_s, EXPECTED[file_format][0])
            np.testing.assert_allclose(trace.capacity_mbps[1:], EXPECTED[file_format][1])


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("file_format", ["ucc", "lumos5g", "puffer", "fcc-httpgetmt"])
def test_each_set_may_be_saved_with_other_delimiters(tmp_path, file_format, delimiter):
    text = "# saved by a spreadsheet\n" + MADE[file_format].replace(",", delimiter)
    ((trace,), said) = read(write(tmp_path, text))
    np.testing.assert_allclose(trace.time_s, EXPECTED[file_format][0])
    np.testing.assert_allclose(trace.capacity_mbps[1:], EXPECTED[file_format][1])
    comments = "files with comments (lines that begin with #), which are not read: 1 (log)"
    assert comments in said


def test_speed_tests_of_a_unit_and_target_follow_each_other(tmp_path):
    row = "{unit},2020-10-01 0{hour}:00:00,sp{target},-,{us},1,1,{rate},1,1,0,8,{good},0,1"
    rows = [
        row.format(unit=8, hour=1, target=1, us=5_000_000, rate=100_000, good=1),
        row.format(unit=8, hour=1, target=2, us=5_000_000, rate=300_000, good=1),
        row.format(unit=8, hour=2, target=1, us=4_000_000, rate=200_000, good=1),
        row.format(unit=8, hour=2, target=1, us=4_000_000, rate=900_000, good=1),
        row.format(unit=8, hour=3, target=1, us=4_000_000, rate=900_000, good=0),
        row.format(unit=9, hour=1, target=1, us=5_000_000, rate=0, good=1),
    ]
    for header in ("", HTTPGET):
        (one, two), said = read(write(tmp_path, header + "\n".join(rows)))
        assert (one.name, two.name) == ("trace_8_sp1", "trace_8_sp2")
        np.testing.assert_allclose(one.time_s, [0, 5, 9])  # 5 s of one test, 4 s of the next
        np.testing.assert_allclose(one.capacity_mbps[1:], [0.8, 1.6])
        np.testing.assert_allclose(two.capacity_mbps[1:], [2.4])
        line = 4 + bool(header)
        assert said == (
            f"rows left out because their test failed: 2 (log:{line}, log:{line + 1})",
            "traces left out because they carry nothing: 1 (trace_9_sp1)",
        )


def test_runs_and_streams_are_traces_of_their_own(tmp_path):
    rows = "1,1,NR,10,walking,CW\n1,1,NR,20,walking,ACW\n1,2,NR,,walking,CW\n1,4,NR,30,walking,CW\n"
    (one, other), said = read(write(tmp_path, LUMOS5G + rows))
    assert (one.name, other.name) == ("lumos5g_1_walking_CW", "lumos5g_1_walking_ACW")
    np.testing.assert_array_equal(one.time_s, [0, 1, 4])
    np.testing.assert_array_equal(one.capacity_mbps[1:], [10, 30])
    assert said == ("rows left out because they have no rate: 1 (log:4)",)

    rows = "".join(f"163519920{n}000000000,a/b=,{n % 2},1,0,9,1,{n}000000\n" for n in (1, 2, 3))
    (one, other), _ = read(write(tmp_path, PUFFER + rows))
    assert (one.name, other.name) == ("tracea-b=_1", "tracea-b=_0")
    np.testing.assert_allclose(one.time_s, [0, 2.002, 4.002])
    np.testing.assert_allclose(one.capacity_mbps[1:], [8, 24])
    np.testing.assert_allclose(other.capacity_mbps[1:], [16])


def test_what_a_log_leaves_open_is_said(tmp_path):
    rows = "2020.01.01_10.00.00,0,0,0,5G,-,9,D\n"
    rows += "".join(f"2020.01.01_10.00.0{s},0,0,0,5G,1000,9,{k}\n" for s, k in ((1, "I"), (1, "D")))
    _, said = read(write(tmp_path, UCC + rows))
    assert said == (
        "rows left out because they have no rate: 1 (log:2)",
        "rows without a download (State I), in which the link may have been faster than its rate: "
        "1 (log:3)",
        "rows left out because they repeat the time of the row before: 1 (log:4)",
    )
    _, said = read(write(tmp_path, MADE["sabre"]))
    assert said == ("files whose latencies are not used, because traces have none: 1 (log)",)


@pytest.mark.parametrize(
    ("header", "reading", "mbps"),
    [
        ("time_s,rtt_ms,capacity_kbps", {}, 3),
        ("Timestamp (s),loss_rate,DL_bitrate [kbps]", {}, 3),
        ("t,lat,bandwidth", {"rate_unit": "kbit/s"}, 3),
        ("t,lat,bandwidth", {"rate_unit": "byte/s"}, 0.024),
        ("timeMs,lat,dlThroughputKbps", {}, 3),
        ("seconds,x,Mbps", {}, 3000),
        ("a,b,c", {"columns": {"time": "a", "rate": "c"}, "rate_unit": "kbit/s"}, 3),
        ("a,Throughput,speed (kB/s)", {"columns": {"time": "a", "rate": "speed (kB/s)"}}, 24),
        ("a,b,c", {"columns": {"time": "a", "bytes": "c"}}, 0.024),
    ],
)
def test_columns_are_found_by_name_or_named(tmp_path, header, reading, mbps):
    first = 0 if "bytes" in reading.get("columns", {}) else 9
    for delimiter in ",;\t":
        text = f"{header}\n0,7,{first}\n1,7,3000\n2,7,6000\n".replace(",", delimiter)
        ((trace,), _) = read(write(tmp_path, text), Reading(**reading))
        seconds = trace.time_s[-1] / 2  # a ms, where the header says so
        np.testing.assert_allclose(trace.capacity_mbps[1:], [mbps, 2 * mbps])
        assert seconds == (0.001 if "Ms" in header else 1)


def test_times_may_be_dates(tmp_path):
    text = "time,rate\n2021-05-01 12:00:00,1\n2021-05-01T12:00:01.5,2\n2021.05.01_12.00.03,3\n"
    ((trace,), _) = read(write(tmp_path, text))
    np.testing.assert_allclose(trace.time_s, [0, 1.5, 3])


def test_times_may_be_clocks(tmp_path):
    text = "date,time,mbps\n2021-05-01,12:59:59,1\n2021-05-01,13:00:00.5,2\n"
    ((trace,), _) = read(write(tmp_path, text))
    np.testing.assert_allclose(trace.time_s, [0, 1.5])


def test_puffer_calls_its_time_by_unit_and_zone(tmp_path):
    ((trace,), _) = read(write(tmp_path, MADE["puffer"].replace("time,", "time (ns GMT),", 1)))
    np.testing.assert_allclose(trace.time_s, EXPECTED["puffer"][0])


@pytest.mark.parametrize("missing", ["", "-", "NaN"])
@pytest.mark.parametrize(
    ("file_format", "line", "rate"),
    [("ucc", 3, ",500,"), ("lumos5g", 3, ",600,"), ("puffer", 3, ",250000")],
)
def test_rows_without_a_rate_are_left_out(tmp_path, file_format, line, rate, missing):
    text = MADE[file_format].replace(rate, rate[0] + missing + rate[-1] * (rate[-1] == ","))
    ((trace,), said) = read(write(tmp_path, text))
    np.testing.assert_allclose(trace.time_s, EXPECTED[file_format][0][:2])
    assert f"rows left out because they have no rate: 1 (log:{line})" in said


def test_a_row_after_a_long_pause_is_said(tmp_path):
    times = [*range(10), 3600, 3601]
    text = "time_s,mbps\n" + "".join(f"{time},2\n" for time in times)
    (_, said) = read(write(tmp_path, text))
    # Line 1 is the header, so the row of 3600 s, the eleventh, is line 12.
    assert said == (
        "rows that stand for more than 60 s, because the row before is older: 1 (log:12)",
    )
    steady = "time_s,mbps\n" + "".join(f"{90 * time},2\n" for time in range(9))
    assert read(write(tmp_path, steady))[1] == ()


def test_bytes_of_one_time_are_added_up(tmp_path):
    # 125,000 bytes and then 250,000 in the second after 0: 3 Mbit/s.
    text = "time_s,bytes\n0,0\n1,125000\n1,250000\n3,250000\n"
    ((trace,), said) = read(write(tmp_path, text))
    np.testing.assert_allclose(trace.capacity_mbps[1:], [3, 1])
    assert said == ("rows joined with the row before because they repeat its time: 1 (log:4)",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HTTPGET + "8,2020-10-01 02:00:00,sp1\n", "log:2: a line must be unit_id, dtime"),
        (MADE["fcc-httpgetmt"].replace(",250000,", ",x,"), "log:2: a line must be unit_id"),
        (MADE["fcc-httpgetmt"].replace("5000000,", "5e10,"), r"fetch_time in 0\.\.3.6e\+09"),
        (UCC + "2018-01,0,0,0,LTE,1,1,D\n", "log:2: a line must be a Timestamp as 2019"),
        (UCC + "2018.01.18_23.59.59,0\n", "log:2: a line must be 8 fields, as the header has"),
        (
            MADE["ucc"].replace("19_00", "18_00"),
            "log:3: a line must be at or after the time of the row",
        ),
        (LUMOS5G + "1,a,NR,1,walking,CW\n", "log:2: a line must be a row with a number seq_num"),
        (
            LUMOS5G + "1,1,NR,0,walking,CW\n",
            "log must hold a run with Throughput above 0, got none",
        ),
        (
            PUFFER.replace("rtt", "time"),
            "log:1: a line must be a header with time, .* no name twice",
        ),
        (PUFFER + "2021-10-01,a,0,1,0,9,1,9\n", "log:2: a line must be a time in ns since 1970"),
        (PUFFER + "1,a,0,1,0,9,1,-9\n", "log:2: a line must be a finite time and a finite rate"),
        ("time,session_id,index,expt_id,video_ts\n1,a,0,1,0\n", "log: Puffer's .* video_sent, got"),
        ("[\n", "log must be JSON, got"),
        ("[1, 2]", r"log: the network\[0\] must be an object, got 1"),
        ("[]", "log must hold a period with a length, got 0"),
        ('[{"duration_ms": 1}]', r"log: the network\[0\] must have bandwidth_kbps"),
        ('[{"duration_ms": -1, "bandwidth_kbps": 1}]', r"\[0\].duration_ms must be in 0"),
        ('[{"duration_ms": 1, "bandwidth_kbps": NaN}]', r"\[0\].bandwidth_kbps must be"),
        ("a,b\n0,1\n", "log:1: a line must be a header that names one time and one rate"),
        ('time,rate\n0,"1\n1,2\n', "log:3: a line must be a row with time a number or a date"),
        ("time,rate\n0,1\n1,1_000\n", "log:3: a line must be a row with .* and rate a number"),
        ("time;rate\n0;1\n1;\n", "log:3: a line must be a row with .* and rate .* got '1;'"),
        ("time,rate\n0,1\n1,2,3\n", "log:3: a line must be 2 fields, as the header has"),
        ("time,rate\n01.05.2021 12:00:00,1\n", "a date as 2021-05-01 12:00:00"),
        ("time," + "x" * 200_000 + "\n", "log: the header must be CSV, got field larger than"),
        ("time,rate\n0," + "1" * 200_000 + "\n", "log:2: a line must be CSV, got field larger"),
    ],
)
def test_broken_tables_are_refused_with_file_and_line(tmp_path, text, sentence):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=sentence) as refusal:
        read(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("when;link speed 2", "0 times and 0 rates were found"),
        ("time,rate,bw", r"1 time \(time\) and 2 rates \(rate, bw\) were found"),
        ("time\tlatency", r"1 time \(time\) and 0 rates were found"),
    ],
)
def test_a_header_with_other_names_is_shown_and_told_where_to_name_them(tmp_path, header, found):
    path = write(tmp_path, f"{header}\n0\n")
    with pytest.raises(InputError, match=found) as refusal:
        read(path)
    said = str(refusal.value)
    assert said.endswith(f"got {header!r}")
    assert "--columns time=NAME,rate=NAME (data convert, data inspect)" in said
    assert 'or in trace-set.json: {"columns": {"time": "NAME", "rate": "NAME"}}' in said


def test_uploads_are_no_downloads(tmp_path):
    path = write(tmp_path, MADE["fcc-httpgetmt"], "curr_httppostmt.csv")
    with pytest.raises(InputError, match="must be of downloads, got uploads, as its name says"):
        read(path)


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        (
            {"columns": {"time": "a", "rate": "z"}},
            "log:1: a line must be a header with one column 'z'",
        ),
        (
            {"columns": {"time": "a", "rate": "c"}, "format": "ucc"},
            "columns must come with format csv",
        ),
        ({"columns": {"time": "a"}}, "columns must name time, and rate or bytes"),
        ({"time_unit": "h"}, "time_unit must be one of s, ms, us, ns, got 'h'"),
        ({"rate_unit": "Mb"}, "rate_unit must be one of Mbit/s, kbit/s"),
        ({"format": "pcap"}, "format must be one of cooked, mahimahi"),
    ],
)
def test_a_wrong_reading_is_refused(tmp_path, reading, sentence):
    with pytest.raises(InputError, match=sentence):
        read(write(tmp_path, "a,b,c\n0,1,2\n1,1,2\n"), Reading(**reading))


@pytest.mark.parametrize("file_format", [*MADE, "mahimahi"])
def test_units_are_left_out_where_the_file_says_them(tmp_path, file_format):
    path = write(tmp_path, MADE.get(file_format, "5\n1000\n"))
    with pytest.raises(InputError, match="rate_unit must be left out where the file says it"):
        read(path, Reading(rate_unit="kbit/s"))


FIELD = st.one_of(
    st.integers(-2, 5000).map(str),
    st.floats().map(str),
    st.sampled_from(["", "-", "nan", "1e999", "D", "I", '"', '"a,b"', "2018.01.18_23.59.59"]),
    st.sampled_from(["2020-10-01 02:00:00", "1635199200000000000", "9" * 30, "\ufeff", "x" * 99]),
    st.text(max_size=4),
)


@st.composite
def near(draw, file_format):
    """Draw a file of a format, with other fields, lines that repeat or lack, or other bytes."""
    lines = MADE[file_format].split("\n")
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["field", "field", "repeat", "lose", "move"]))
        if kind == "field":
            fields = lines[place].split(",")
            fields[draw(st.integers(0, len(fields) - 1))] = draw(FIELD)
            lines[place] = ",".join(fields)
        elif kind == "repeat":
            lines.insert(place, lines[place])
        elif kind == "lose" and len(lines) > 1:
            del lines[place]
        else:
            lines.append(lines[place])
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        data = gzip.compress(data, mtime=0)
    if draw(st.integers(0, 4)) == 0:
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=3)) + data[place + 1 :]
    return data


UNITS = st.sampled_from([{}, {"time_unit": "ms"}, {"rate_unit": "bit/s"}])


def is_read_or_refused(folder, data, reading):
    path = write(folder, data)
    try:
        traces, said = read(path, reading)
    except InputError as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017
        assert str(path) in str(refusal)  # noqa: PT017
        return
    assert traces
    assert not any("\n" in sentence for sentence in said)
    for trace in traces:
        assert trace.time_s[0] == 0
        assert (np.diff(trace.time_s) > 0).all()
        assert np.isfinite(trace.capacity_mbps).all()
        assert trace.capacity_mbps[1:].max() > 0


@pytest.mark.parametrize("examples", [40, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("file_format", MADE)
def test_whatever_stands_in_a_table_is_read_or_refused(tmp_path, file_format, examples):
    @settings(max_examples=examples)
    @given(data=near(file_format), named=st.sampled_from(["", file_format, *FORMATS]), units=UNITS)
    def check(data, named, units):
        is_read_or_refused(tmp_path, data, Reading(named, **units))

    check()
