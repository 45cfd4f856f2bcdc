"""Fill in the tables of the benchmark pages from the JSON files in `results/`.

    python benchmarks/pages.py           # rewrite the pages
    python benchmarks/pages.py --check   # change nothing; exit with 1 if a page is out of date

A page says where a table stands by two comments; what is between them is generated:

    <!-- table: results/abr/fcc-test.json -->
    <!-- end -->

A file holds either one table of `netllm-gym bench --json` or several tables under names of their
own; `results/vp/jin2022-wu2017.json#trim-60` is one of these. Some of the columns are chosen by
`results/abr/fcc-test.json; columns: policy, trained on`. The main page describes the files.
"""

import argparse
import json
import os
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
SLOT = re.compile(r"(<!-- table: (?P<asked>.+?) -->\n)(?P<table>.*?)(<!-- end -->)", re.DOTALL)
LOWER_IS_BETTER = ("jct_s", "mae_deg")  # metrics of `bench --json`


class PageError(Exception):
    """A page asks for what is not there; the sentence names the page."""


def main() -> None:
    """Rewrite the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, say what is old")
    check = parser.parse_args().check
    outdated = []
    for page in sorted(FOLDER.rglob("*.md")):
        name = page.relative_to(FOLDER).as_posix()
        written = page.read_text("utf-8")
        try:
            filled = fill(written, page)
        except PageError as error:
            sys.exit(f"pages: {name}: {error}")
        if filled != written and check:
            outdated.append(name)
        elif filled != written:
            page.write_text(filled, "utf-8")
    if outdated:
        sys.exit(f"pages: not up to date: {', '.join(outdated)}; run python benchmarks/pages.py")


def fill(text: str, page: Path) -> str:
    """Return the text of a page with all of its tables generated anew."""
    slots = list(SLOT.finditer(text))
    if len(slots) != text.count("<!-- table:"):
        raise PageError("every <!-- table: FILE --> needs an <!-- end --> after it")
    return SLOT.sub(lambda slot: f"{slot[1]}{rendered(slot['asked'], page)}{slot[4]}", text)


def rendered(asked: str, page: Path) -> str:
    """Return one table as Markdown, and below it what was measured, when and where."""
    address, _, chosen = asked.partition("; columns: ")
    name, _, part = address.partition("#")
    path = FOLDER / name
    if not path.is_file():
        raise PageError(f"there is no file {name}")
    # Decimals keep the digits that were published: 1.1300 stays 1.1300.
    content = json.loads(path.read_text("utf-8"), parse_float=Decimal)
    about = content["about"]
    if "tables" in content:
        if part not in content["tables"]:
            raise PageError(f"{name} has the tables {', '.join(content['tables'])}, not {part!r}")
        table = content["tables"][part]
        about = about | table.get("about", {})
        columns = [{"name": each} if isinstance(each, str) else each for each in table["columns"]]
        rows = [
            [cell_text(cell, **column) for cell, column in zip(row, columns, strict=True)]
            for row in table["rows"]
        ]
        head = [column["name"] for column in columns]
    else:
        head, rows = bench_table(content)
    if chosen:
        head, rows = some_columns(chosen.split(", "), head, rows, name)
    link = f"[{name}]({os.path.relpath(path, page.parent)})".replace(os.sep, "/")
    origin = [f"{key}: {about[key]}; " for key in ("date", "commit", "machine") if about.get(key)]
    caption = f"{about['measured']} *{''.join(origin)}figures: {link}*"
    return f"\n{markdown(head, rows)}\n\n{caption}\n"


def bench_table(content: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table of `bench --json`, the best policy first."""
    results = content["rows"]
    metric = results[0]["metric"]
    results = sorted(results, key=lambda row: row["mean"], reverse=metric not in LOWER_IS_BETTER)
    versus = next((row["versus"]["policy"] for row in results if row["versus"]), None)
    head = ["policy", f"{metric} [95 %]", *results[0]["components"]]
    head += [f"vs {versus} [95 %]"] if versus else []
    head += ["ms/decision", "trained on"]
    rows = []
    for row in results:
        cells = [f"`{row['policy']}`", bench_cell(row, "")]
        cells += [_digits(value, 4) for value in row["components"].values()]
        cells += [bench_cell(row["versus"], "+")] if versus else []
        cells += [_digits(row["decision_ms"], 3), row["trained_on"]]
        rows.append(cells)
    return head, rows


def bench_cell(result: dict[str, Any] | None, sign: str) -> str:
    """Return a mean and its interval with the digits that `bench` prints."""
    if result is None:
        return ""
    interval = ", ".join(_digits(end, 3, sign) for end in result["ci95"] or ())
    return f"{_digits(result['mean'], 4, sign)} [{interval}]" if interval else ""


def _digits(value: Decimal | None, digits: int, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.{digits}f}"


def cell_text(cell: Any, name: str = "", signed: bool = False, unit: str = "") -> str:
    """Return what a cell shows: text, a number, several numbers, or a mean and its interval."""
    if cell is None or isinstance(cell, str):
        return cell or ""
    if isinstance(cell, list):
        return ", ".join(cell_text(each, signed=signed, unit=unit) for each in cell)
    if isinstance(cell, dict):
        low, high = (cell_text(end, signed=signed) for end in cell["ci95"])
        return f"{cell_text(cell['mean'], signed=signed)} [{low}, {high}]"
    return f"{cell:{'+' if signed else ''}{',' if isinstance(cell, int) else ''}}{unit}"


def some_columns(
    chosen: list[str], head: list[str], rows: list[list[str]], name: str
) -> tuple[list[str], list[list[str]]]:
    """Return a table with these columns alone, in this order."""
    missing = [each for each in chosen if each not in head]
    if missing:
        raise PageError(f"{name} has the columns {', '.join(head)}, not {', '.join(missing)}")
    places = [head.index(each) for each in chosen]
    return chosen, [[row[place] for place in places] for row in rows]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table as Markdown, columns of numbers to the right."""
    numbers = re.compile(r"[-+]?\d[^a-z]*|")
    aligned = [
        "---:" if all(numbers.fullmatch(row[column]) for row in rows) else "---"
        for column in range(len(head))
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, aligned, *rows))


if __name__ == "__main__":
    main()
