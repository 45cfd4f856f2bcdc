"""What reads other programs' files is documented where a user looks."""

from pathlib import Path

import pytest

from netllm_gym.cli.main import run
from netllm_gym.data.abr.formats import CSV_CAPACITIES, CSV_TIMES, READERS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


@pytest.mark.parametrize("command", ["convert", "import-pool", "log-reward"])
def test_the_commands_have_help_with_an_example_and_a_page(capsys, command):
    assert run(["data", command, "--help"]) == 0
    assert f"Example: netllm-gym data {command}" in capsys.readouterr().out
    assert f"netllm-gym data {command}" in DOCS.read_text("utf-8")


def test_the_page_names_every_format_and_column():
    text = DOCS.read_text("utf-8")
    assert [name for name in READERS if f"| `{name}` |" not in text] == []
    assert [name for name in (*CSV_TIMES, *CSV_CAPACITIES) if f"`{name}`" not in text] == []
