"""The HTML report: whole in itself, escaped, themed, sortable, and true to its table."""

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources

import pytest

from netllm_gym.cli.main import run
from netllm_gym.errors import MissingDataError
from netllm_gym.report import html as report_html
from netllm_gym.report.html import play_episode, render_report
from tests.evaluation.test_tables import TABLE, made_row, made_table
from tests.made_tables import abr_table

EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>{{ 7 * 7 }}"


class Page(HTMLParser):
    """Tags, attributes, words and scripts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.scripts, self.inside = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        (self.scripts if self.inside == "script" else self.words).append(data)

    @property
    def policies(self):
        names = ("policy" in (attributes.get("class") or "").split() for _, attributes in self.tags)
        return sum(names)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return abr_table(tmp_path_factory.mktemp("traces"))


@pytest.fixture(scope="module")
def page(table):
    return render_report([table, TABLE], [play_episode(table, ["bba", "robust_mpc"]), None])


def test_nothing_is_fetched(page):
    for tag, attributes in Page(page).tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert name not in {"src", "srcset", "action", "formaction", "data", "xlink:href"}
            assert name != "href" or value.startswith("#")
            assert not name.startswith("on")
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page
    assert "@import" not in page


def test_both_themes_paper_and_telephone_are_there(page):
    assert 'name="color-scheme" content="light dark"' in page
    for words in ("screen and (prefers-color-scheme: dark)", "print", "(max-width: 640px)"):
        assert f"@media {words}" in page
    light, dark = (
        set(re.findall(r"(--[a-z0-9-]+):", part))
        for part in page.split("@media screen and (prefers-color-scheme: dark)")[:2]
    )
    assert light <= dark  # every colour of the light theme has its dark one


def test_the_page_says_what_the_table_says(table, page):
    words = " ".join(" ".join(Page(page).words).split())
    for row in table.rows:
        assert f"{row.mean:.4f}" in words
        assert f"[{row.ci95[0]:.3f}, {row.ci95[1]:.3f}]" in words
        for name, value in row.components.items():
            assert f"{value:.4f}" in words, name
    assert "No policy can exceed 2.500000 here (certified by optimum)." in words
    assert Page(page).policies == len(table.rows) + len(TABLE.rows)
    orders = re.findall(r'<td class="number[^"]*" data-order="([^"]*)">([-+0-9.]*)', page)
    assert all(
        float(order) == pytest.approx(float(text), abs=6e-4) for order, text in orders if text
    )


def test_leaks_and_the_bound_are_marked():
    leaky = made_row("mine", [1.0, 1.5], trained_on="fcc (leaky: saw 3 of 45 recordings)")
    page = render_report([made_table(*TABLE.rows, leaky)], [None])
    assert '<span class="badge leak">leaky: saw 3 of 45 recordings</span>' in page
    assert '<span class="badge">bound</span>' in page
    assert '<span class="badge">compared with</span>' in page


def test_a_long_case_has_a_short_title_and_is_told_in_the_notes():
    paths = {"traces": "/data/" + "very/" * 30 + "mine", "video": "v" * 200}
    page = render_report([replace(TABLE, case=paths), TABLE], [None, None])
    title = f"mine x {'v' * 70}..."
    assert len(title) == 80
    assert f"<title>netllm-gym: {title} and 1 more</title>" in page
    assert f"<h1>{title}</h1>" in page
    assert f"{paths['traces']} x {paths['video']}: 2 episodes" in page


def test_names_from_outside_are_text_and_nothing_else(table):
    played = play_episode(table, ["bba", "robust_mpc"], 0)
    assert played.described == "trace <i>t0 from row 1"
    played = replace(
        played, described=EVIL, sides=tuple(replace(side, policy=EVIL) for side in played.sides)
    )
    rows = [replace(row, policy=EVIL + row.policy, trained_on=EVIL) for row in TABLE.rows]
    rows[0] = replace(rows[0], versus={**rows[0].versus, "policy": rows[1].policy})
    wrong = replace(TABLE, rows=rows, commit=EVIL, case={"traces": EVIL, "video": EVIL})
    text = render_report([wrong], [played])
    page = Page(text)
    script = resources.files("netllm_gym.report").joinpath("templates/report.js").read_text("utf-8")
    assert ["".join(page.scripts).strip()] == [script.strip()]
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"img"}
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "{{ 7 * 7 }}" in text  # a name is no template
    assert "alert(1)" in "".join(page.words)


def test_equal_tables_give_equal_bytes(table, page):
    assert page == render_report([table, TABLE], [play_episode(table, ["bba", "robust_mpc"]), None])


def test_the_command_writes_a_report(capsys, tmp_path, table):
    source, out = tmp_path / "table.json", tmp_path / "report.html"
    source.write_text(table.to_json())
    assert run(["report", str(source), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "episode played by bba and robust_mpc;" in said
    assert f"report in {out}" in said
    assert "One trace, played through" in out.read_text("utf-8")
    asked = ["report", str(source), str(source), "--play", "none", "--out", str(out)]
    assert run(asked) == 0
    assert "One trace, played through" not in out.read_text("utf-8")
    assert out.read_text("utf-8").count("<section") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "table.json"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.json", "--out", "r.html"], "table must be a file written by bench --json, got"),
        (["bad.json", "--out", "r.html"], "bad.json: the table must have problem"),
        (["good.json", "--out", "no/r.html"], "out must be a file in an existing folder, got no"),
        (["good.json", "--out", "."], "out must be a file in an existing folder"),
        (["good.json", "--out", "good.json"], "out must not be one of the tables, got good.json"),
        (["good.json", "--out", "r.html", "--play", ","], "names must be one or more"),
        (
            ["good.json", "--out", "r.html", "--play", "none", "--episode", "1"],
            "episode must be left",
        ),
        (["good.json", "--out", "r.html", "--episode", "100"], "episode must be in 0..4, got 100"),
        (["--out", "r.html"], "Missing argument"),
    ],
)
def test_wrong_input_is_one_sentence(capsys, monkeypatch, tmp_path, table, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.json").write_text(table.to_json())
    (tmp_path / "bad.json").write_text("{}")
    assert run(["report", *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "r.html").exists()
    assert (tmp_path / "good.json").read_text() == table.to_json()


def test_without_jinja2_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(report_html, "find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match="report must have jinja2"):
        render_report([TABLE], [None])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium to click")
def test_a_click_sorts(page, tmp_path):
    heads = "document.querySelectorAll('.results thead button')"
    click = f"<script>{heads}[0].click();</script>"
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{click}</body>"), "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    place = f"file://{tmp_path}/page.html"
    dumped = subprocess.run(
        ["chromium", *flags, f"--user-data-dir={tmp_path}/profile", "--dump-dom", place],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    names = re.findall(r'<span class="policy">([^<]*)</span>', dumped)[:4]
    assert names == ["bba", "lowest", "random", "robust_mpc"]
