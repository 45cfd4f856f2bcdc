"""Readers of foreign trace files: sums by hand, bytes kept, and the rest refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.cli.main import run
from netllm_gym.data.abr.folders import convert_traces
from netllm_gym.data.abr.formats import READERS
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.source import Reading
from netllm_gym.data.abr.traces import read_traces
from netllm_gym.errors import InputError

WEBGET = "unit_id,dtime,target,address,fetch_time,bytes_total,bytes_sec,objects\n"
MADE = {  # one tiny file per format, made up
    "cooked": "0 9\n1.5 2\n3 0\n",
    "mahimahi": "0\n3\n999\n1000\n1001\n3000\n3500\n",
    "csv": "time_ms,capacity_kbps\n0,0\n1500,2000\n3000,500\n",
    "hsdpa": "1290000000 5000 59.8 10.7 250000 1000\n1290000001 5500 59.8 -10.7 0 500\n",
    "fcc": WEBGET + '7,2016-06-01 00:10:00,"http://a.org/x",1.2.3.4,99,500,125000,3\n',
}


def write(folder, text, name="log"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def carried_bytes(trace):
    return float((np.diff(trace.time_s) * trace.capacity_mbps[1:]).sum()) * 1e6 / 8


def test_mahimahi_packets_are_counted_per_second(tmp_path):
    (trace,) = read_traces(write(tmp_path, MADE["mahimahi"]))
    # Bins (0, 1], (1, 2], (2, 3], (3, 3.5] s: 0, 3, 999 and 1000 ms, then 1001, then 3000, then
    # 3500. 4 packets of 1,500 bytes a second are 0.048 Mbit/s, one in half a second 0.024.
    np.testing.assert_array_equal(trace.time_s, [0, 1, 2, 3, 3.5])
    np.testing.assert_allclose(trace.capacity_mbps[1:], [0.048, 0.012, 0.012, 0.024])
    assert carried_bytes(trace) == pytest.approx(7 * 1500)


def test_mahimahi_line_that_says_1_is_12_mbps(tmp_path):
    # The example of Mahimahi's own notes: one packet per ms.
    (trace,) = read_traces(write(tmp_path, "1\n"))
    np.testing.assert_array_equal(trace.time_s, [0, 0.001])
    assert trace.capacity_mbps[1] == pytest.approx(12)


def test_mahimahi_seconds_without_a_packet_are_zeros(tmp_path):
    (trace,) = read_traces(write(tmp_path, "5\n4000\n"))
    np.testing.assert_allclose(trace.capacity_mbps[1:], [0.012, 0, 0, 0.012])


@pytest.mark.parametrize(
    ("text", "mbps", "num_bytes"),
    [
        # 1.5 s at 2 Mbit/s and 1.5 s at 0.5 carry 3.75 Mbit, 468,750 bytes.
        (MADE["csv"], [2, 0.5], 468_750),
        ("capacity_mbps,time_s\n9,10\n2,11.5\n0.5,13\n", [2, 0.5], 468_750),
        ('"time_s" , "capacity_bps"\n0,0\n\n1.5,2e6\n3,5e5\n', [2, 0.5], 468_750),
        ("\ufefftime_s,bytes\n0,0\n1.5,375000\n3,93750\n", [2, 0.5], 468_750),
    ],
)
def test_csv_columns_and_units(tmp_path, text, mbps, num_bytes):
    (trace,) = read_traces(write(tmp_path, text))
    np.testing.assert_allclose(trace.time_s, [0, 1.5, 3])
    np.testing.assert_allclose(trace.capacity_mbps[1:], mbps)
    assert carried_bytes(trace) == pytest.approx(num_bytes)


@pytest.mark.parametrize(
    "text",
    [
        "0,1\n1.5,2\n3,0.5\n",
        "0; 1\r\n1.5; 2\r\n3; 0.5\r\n",
        "# time and rate of a bus\n\n# time in s, rate in Mbit/s\n0 1\n1.5 2\n3 0.5\n",
        "# time_s mbps\n0 1\n1.5 2\n3 0.5\n",  # as numpy.savetxt writes a header
        "#time_ms,kbps\n0,1000\n1500,2000\n3000,500\n",
        "time  bandwidth \n0  1 \n1.5  2\n 3 0.5\n",
        "\ufeff# Sheet\ntime_s;Throughput, mean (kbit/s)\n0,0;1000,0;\n1,5;2000,0\n3;500\n",
    ],
)
def test_numbers_stand_apart_in_many_ways_and_comments_may_stand_above(tmp_path, text):
    (trace,) = read_traces(write(tmp_path, text))
    np.testing.assert_allclose(trace.time_s, [0, 1.5, 3])
    np.testing.assert_allclose(trace.capacity_mbps[1:], [2, 0.5])


def test_a_comment_above_does_not_shift_the_number_of_a_line(tmp_path):
    for text in ("# a\n\n0 1\n1 x\n", "# a\n\ntime,rate\n1,x\n"):
        with pytest.raises(InputError, match="log:4: a line must be"):
            read_traces(write(tmp_path, text))


@pytest.mark.parametrize(
    ("begin", "said"),
    [(b"PK\x03\x04", "a zip archive"), (b"BZh9", "packed by bzip2"), (b"\xff\xfe0\0", "UTF-16")],
)
def test_files_that_are_no_text_are_called_by_what_they_are(tmp_path, begin, said):
    with pytest.raises(
        InputError, match=f"must be UTF-8 text, perhaps packed by gzip, got .*{said}"
    ):
        read_traces(write(tmp_path, begin))


def test_the_position_of_a_phone_may_be_unknown(tmp_path):
    text = "1290000000 5000 nan nan 250000 1000\n1290000001 6000 0 -1e-05 125000 1000\n"
    (trace,) = read_traces(write(tmp_path, text))
    np.testing.assert_allclose(trace.capacity_mbps[1:], [2, 1])


def test_hsdpa_bytes_are_spread_over_their_own_milliseconds(tmp_path):
    log = "1289406399 549692 59.851754 10.781778 248069 1008\n"
    log += "1289406400 550772 59.851864 10.781833 191698 1080\n"
    (trace,) = read_traces(write(tmp_path, log, "tram.log"))
    np.testing.assert_allclose(trace.time_s, [0, 1.008, 2.088])
    # 248,069 bytes in 1,008 ms: 248069 * 8 / 1.008e6.
    np.testing.assert_allclose(trace.capacity_mbps[1:], [1.96880159, 1.41998519])
    assert carried_bytes(trace) == pytest.approx(248_069 + 191_698)
    assert trace.recording == trace.content  # the name does not say which ride


def test_fcc_table_is_one_trace_per_unit_and_target(tmp_path):
    rows = [
        "942154,2016-06-01 00:10:00,http://www.ebay.com,1.2.3.4,1,2,100000,3",
        "942154,2016-06-01 00:10:09,http://www.msn.com,1.2.3.4,1,2,50000,3",
        "942154,2016-06-01 02:10:00,http://www.ebay.com,1.2.3.4,1,2,0,3",
        "942155,2016-06-01 00:10:00,http://www.ebay.com,1.2.3.4,1,2,0,3",
        "942154,2016-06-01 04:10:00,http://www.ebay.com,1.2.3.4,1,2,300000,3",
    ]
    for header in ("", WEBGET):  # some months have none
        ebay, msn = read_traces(write(tmp_path, header + "\n".join(rows)))
        assert ebay.name == "trace_942154_http---www.ebay.com"
        assert ebay.recording == "942154_http---www.ebay.com"
        np.testing.assert_array_equal(ebay.time_s, [0, 5, 10, 15])
        np.testing.assert_allclose(ebay.capacity_mbps[1:], [0.8, 0, 2.4])
        # 5 s at each of 100,000, 0 and 300,000 bytes/s.
        assert carried_bytes(ebay) == pytest.approx(2_000_000)
        assert carried_bytes(msn) == pytest.approx(250_000)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must hold a trace, got no line with anything on it"),
        ("\n\nhello world\n", r"log:3: a trace must begin with .*Mahimahi.*got 'hello world'"),
        ("1 2 3\n", r"log:1: a trace must begin with .*got '1 2 3'"),
        (b"1\n\xff\n", "log:2: a line must be UTF-8 text, got the byte 0xff"),
        ("5\n3\n", r"log:2: a line must be at least 5 ms, the one before, got '3'"),
        ("5\n\n6.5\n", r"log:3: a line must be one whole number of ms"),
        ("5\n9999999999\n", r"log:2: a line must be one whole number of ms, 0\.\.604800000"),
        ("0\n0\n", "must end after 0 ms"),
        ("a,b\n0,1\n", r"log:1: a line must be a header that names one time.*got 'a,b'"),
        ("time_s,time_ms\n0,1\n", "a header that names one time and one rate"),
        ("time_s,bytes,bytes\n0,1,1\n", "a header that names one time and one rate"),
        ("time,rate,bw\n0,1,1\n", "a header that names one time and one rate"),
        ("0,1,2\n1,2,3\n", "log:1: a line must be a header that names one time"),
        ("time_s,bytes\n0,0\n1,x\n", "log:3: a line must be a row with time_s a number or"),
        ("time_s,bytes\n0,0\n1\n", "log:3: a line must be 2 fields"),
        (
            "time_s,bytes\n0,0\n2,1\n1,1\n",
            "log:4: a line must be at or after the time of the row before, got",
        ),
        ("time_s,bytes\n0,7\n1,1\n", "log:2: a line must be 0 bytes in the first row"),
        ("time_s,bytes\n0,0\n1,-1\n", "log:3: a line must be a finite time and finite bytes of at"),
        ("time_s,bytes\n0,0\n1e-300,1e300\n", "must be finite"),
        ("time_s,capacity_mbps\n", "a trace must have 2 or more rows, got 0"),
        ("1 5 59.8 10.7 100 1000\n2 6 59.8 10.7 100\n", "log:2: a line must be unix s"),
        ("1 5 59.8 10.7 100 0\n", r"log:1: .*ms \(above 0\) since the last line, got '1 5"),
        ("1 5 9 9 9 9\n2 5 9 9 9 9\n", "log:2: a line must be later than the one before, 5 ms"),
        ("1 5 9 9 0 9\n", "must be above 0 in some row after the first"),
        (WEBGET, "must hold a measurement with bytes_sec above 0, got none"),
        (WEBGET + "7,2016-06-01,a,b,1,2,3\n", "log:2: a line must be unit_id, dtime"),
        (WEBGET + "7,2016-06-01 00:00:00,a,b,1,2,-3\n", r"log:2: .*bytes_sec in 0\.\.1e\+15"),
    ],
)
def test_broken_files_are_refused_with_file_and_line(tmp_path, text, sentence):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=sentence) as refusal:
        read_traces(path)
    assert str(path) in str(refusal.value)


def test_formats_may_be_mixed_in_a_folder(tmp_path):
    for file_format, text in MADE.items():
        write(tmp_path, text, file_format)
    names = [trace.name for trace in load_trace_set(tmp_path).traces]
    assert names == ["cooked", "csv", "trace_7_http---a.org-x", "hsdpa", "mahimahi"]


def test_every_format_is_detected_as_itself(tmp_path):
    for file_format, text in MADE.items():
        path = write(tmp_path, text)
        (trace,), (named,) = read_traces(path), read_traces(path, Reading(file_format))
        np.testing.assert_array_equal(trace.capacity_mbps, named.capacity_mbps)
    with pytest.raises(InputError, match="format must be one of cooked, mahimahi, csv, hsdpa, fcc"):
        Reading("pcap")


LINE = st.one_of(
    st.from_regex(r"[0-9]{1,5}", fullmatch=True),
    st.from_regex(r"[0-9]{1,3}(\.[0-9])? [0-9]{1,3}", fullmatch=True),
    st.from_regex(r"1 [0-9]{1,4} 9 9 [0-9]{1,6} [0-9]{1,3}", fullmatch=True),
    st.from_regex(r"[0-9]{1,4},-?[0-9]{1,4}(e[0-9]{1,3})?", fullmatch=True),
    st.from_regex(r"[12],2016-06-01 00:00:00,[ab/\x00]?,x,1,2,[0-9]{1,4}", fullmatch=True),
    st.sampled_from(["time_s,bytes", "time_ms,capacity_kbps", WEBGET.strip(), "", "nan", "inf 1"]),
    st.text(alphabet='0123456789., \t\r-+enaif"_\ufeff\x0c', max_size=20),
)
FILE = st.binary(max_size=60) | st.lists(LINE, max_size=8).map("\n".join).map(str.encode)
FORMAT = st.sampled_from(["", *READERS])


def is_read_or_refused(folder, data, file_format):
    path = folder / "log"
    path.write_bytes(data)
    said = f"{path}"
    try:
        traces = read_traces(path, Reading(file_format))
    except InputError as refusal:
        traces, said = [], str(refusal)
    assert "\n" not in said
    assert str(path) in said
    for trace in traces:
        assert trace.time_s[0] == 0
        assert (np.diff(trace.time_s) > 0).all()
        assert trace.capacity_mbps[1:].max() > 0


@settings(max_examples=50)
@given(data=FILE, file_format=FORMAT)
def test_any_bytes_are_read_or_refused(tmp_path_factory, data, file_format):
    is_read_or_refused(tmp_path_factory.getbasetemp(), data, file_format)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", READERS)
def test_any_bytes_are_read_or_refused_2000_times(tmp_path, file_format):
    @settings(max_examples=2000)
    @given(data=FILE, named=st.booleans())
    def check(data, named):
        is_read_or_refused(tmp_path, data, file_format if named else "")

    check()


@settings(max_examples=60)
@given(gaps_ms=st.lists(st.integers(0, 2500), min_size=1, max_size=40).filter(any))
def test_mahimahi_keeps_every_packet(tmp_path_factory, gaps_ms):
    folder = tmp_path_factory.getbasetemp()
    packets_ms = np.cumsum(gaps_ms)
    (trace,) = read_traces(
        write(folder, "".join(f"{ms}\n" for ms in packets_ms)), Reading("mahimahi")
    )
    assert trace.time_s[-1] == packets_ms[-1] / 1000
    # The slow loop: a packet belongs to the first bin that ends at or after it.
    counts = [0] * (len(trace.time_s) - 1)
    for ms in packets_ms:
        ends = [place for place, end_s in enumerate(trace.time_s[1:]) if end_s >= ms / 1000]
        counts[ends[0]] += 1
    expected = np.array(counts) * 1500 * 8e-6 / np.diff(trace.time_s)
    np.testing.assert_allclose(trace.capacity_mbps[1:], expected)


def test_converted_traces_are_the_same_traces(tmp_path):
    source, out = tmp_path / "in", tmp_path / "deep" / "out"
    source.mkdir()
    for file_format, text in MADE.items():
        write(source, text, f"{file_format}.csv" if file_format == "csv" else file_format)
    assert len(convert_traces(source, out).traces) == 5
    written = {trace.name: trace for trace in load_trace_set(out).traces}
    assert set(written) == {"cooked", "csv", "trace_7_http---a.org-x", "hsdpa", "mahimahi"}
    for before in load_trace_set(source).traces:
        after = written[before.name.removesuffix(".csv")]
        np.testing.assert_array_equal(before.time_s, after.time_s)
        np.testing.assert_array_equal(before.capacity_mbps, after.capacity_mbps)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_convert_on_the_command_line(capsys, tmp_path):
    log, out = write(tmp_path, MADE["fcc"], "webget.csv"), tmp_path / "out"
    assert run(["data", "convert", str(log), "--out", str(out)]) == 0
    assert "1 trace, 5 s together, in" in capsys.readouterr().out
    assert (out / "trace_7_http---a.org-x").read_text() == "0.0 1.0\n5.0 1.0\n"
    assert run(["bench", "abr", "--policies", "lowest", "--traces", str(out)]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none"], "traces must be a file or a folder, got none, which does not exist"),
        (["full/b"], "full/b:1: a trace must begin with"),
        (["full", "--format", "mahimahi"], "full/a:1: a line must be one whole number of ms"),
        (["full", "--format", "pcap"], "format must be one of cooked, mahimahi"),
        (["empty"], "traces must hold a trace file, got the empty folder empty"),
        (["twins"], "got trace_7_a from twins/x.csv and twins/y.csv"),
        (["full/a", "--out", "full"], "out must be a new or empty folder, got full"),
    ],
)
def test_convert_refuses_in_a_sentence_and_writes_nothing(
    capsys, tmp_path, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    for folder in ("full", "empty", "twins"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "full", MADE["cooked"], "a")
    write(tmp_path / "full", "what is this\n", "b")
    for name in ("x.csv", "y.csv"):
        write(tmp_path / "twins", "7,2016-06-01 00:00:00,a,b,1,2,3000\n", name)
    asked = arguments if "--out" in arguments else [*arguments, "--out", "out"]
    assert run(["data", "convert", *asked]) == 2
    assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full", "twins"]


def test_a_convert_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    def full(path, time_s, capacity_mbps):
        path.write_text("0.0")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("netllm_gym.data.abr.folders.write_cooked_trace", full)
    log = write(tmp_path, MADE["csv"])
    with pytest.raises(OSError, match="No space left"):
        convert_traces(log, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
