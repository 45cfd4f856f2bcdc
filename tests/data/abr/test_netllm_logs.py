"""NetLLM's text logs: the mean by hand, and what is no log refused."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.cli.main import run
from netllm_gym.data.abr.netllm_logs import mean_reward, read_rewards
from netllm_gym.errors import InputError


def logs(folder, *texts):
    for number, text in enumerate(texts):
        (folder / f"log_{number}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


TWO = ("1 2.0\n2 3.5\n3 3.0\n", "1 1.0\n2 4.0\n3 5.0\n")


def test_first_lines_are_left_out(tmp_path):
    # (3.5 + 3.0 + 4.0 + 5.0) / 4, and (2.0 + 3.5 + 3.0 + 1.0 + 4.0 + 5.0) / 6.
    assert mean_reward(logs(tmp_path, *TWO)) == 3.875
    assert mean_reward(tmp_path, skip_first_line=False) == pytest.approx(18.5 / 6)


def test_eight_columns_end_at_an_empty_line(tmp_path):
    # As NetLLM writes them: seven more columns, tabs, an empty line at the end.
    line = "11.5\t300\t4.0\t7.5\t181801\t7500.0\t0.0\t{}\n"
    text = line.format(-32.0) + line.format(0.3) + line.format(0.75) + "\nand a remark\n"
    assert read_rewards(logs(tmp_path, text))["log_0"].tolist() == [0.3, 0.75]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 2\n", "log_0 must have 2 or more lines, got 1"),
        ("", "log_0 must have 2 or more lines, got 0"),
        ("1 2\n1 x\n", "log_0:2: a line must be 2 columns, the last one a finite reward"),
        ("1 2\n1 2 3\n", "log_0:2: a line must be 2 columns"),
        ("1 2\n1 nan\n", "log_0:2: a line must be 2 columns"),
        ("7\n8\n", "log_0:1: a line must be 2 columns"),
        (b"1 2\n1 \xff\n", "log_0:2: a line must be 2 columns"),
    ],
)
def test_other_files_are_refused_with_the_line(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence):
        mean_reward(logs(tmp_path, text))


def test_on_the_command_line(capsys, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    assert run(["data", "log-reward", str(folder)]) == 2
    assert "got the empty folder" in capsys.readouterr().err
    logs(folder, *TWO)
    assert run(["data", "log-reward", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said == "mean reward 3.875000 over 4 lines of 2 files, the first of each left out\n"
    assert run(["data", "log-reward", str(folder), "--all-lines"]) == 0
    assert capsys.readouterr().out == "mean reward 3.083333 over 6 lines of 2 files\n"
    assert run(["data", "log-reward", str(tmp_path / "none")]) == 2
    assert "logs must be a folder" in capsys.readouterr().err


ANY = st.binary(max_size=40) | st.text("0123456789 .\t\n-einf", max_size=40).map(str.encode)


def is_read_or_refused(folder, data):
    folder = logs(folder, data)
    said = str(folder)
    try:
        assert math.isfinite(mean_reward(folder)) or "e" in data.decode()  # 1e308 + 1e308
    except InputError as refusal:
        said = str(refusal)
    assert str(folder) in said
    assert "\n" not in said


@settings(max_examples=100)
@given(ANY)
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    is_read_or_refused(tmp_path_factory.mktemp("logs"), data)


@pytest.mark.slow
@settings(max_examples=2000)
@given(ANY)
def test_any_bytes_are_read_or_refused_2000_times(tmp_path_factory, data):
    is_read_or_refused(tmp_path_factory.mktemp("logs"), data)
