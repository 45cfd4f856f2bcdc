"""What reads other programs' files is documented where a user looks."""

from pathlib import Path

import pytest

from netllm_gym.cli.main import run
from netllm_gym.data.abr.formats import READERS
from netllm_gym.data.abr.source import FORMATS
from netllm_gym.data.abr.units import RATE_UNITS, TIME_UNITS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


@pytest.mark.parametrize("command", ["convert", "import-pool", "log-reward"])
def test_the_commands_have_help_with_an_example_and_a_page(capsys, command):
    assert run(["data", command, "--help"]) == 0
    assert f"Example: netllm-gym data {command}" in capsys.readouterr().out
    assert f"netllm-gym data {command}" in DOCS.read_text("utf-8")


def test_page_and_help_name_every_format_and_unit(capsys):
    text = DOCS.read_text("utf-8")
    assert tuple(READERS) == FORMATS
    assert [name for name in FORMATS if f"| `{name}` |" not in text] == []
    assert [name for name in (*TIME_UNITS, *RATE_UNITS) if f"`{name}`" not in text] == []
    assert run(["data", "convert", "--help"]) == 0
    said = capsys.readouterr().out
    assert [name for name in (*FORMATS, *TIME_UNITS, *RATE_UNITS) if name not in said] == []
