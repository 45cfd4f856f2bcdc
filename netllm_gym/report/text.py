"""Tables as text."""

from dataclasses import replace
from pathlib import Path

from netllm_gym.evaluation.tables import Row, Table
from netllm_gym.files import counted
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import Problem

LONGEST_TITLE = 80  # characters


def render_table(table: Table) -> str:
    """Return a table as plain text, the best policy first, with notes on its numbers below."""
    problem, rows, versus = find_problem(table.problem), ranked(table), compared_with(table)
    head = ["policy", f"{problem.metric} [95 %]", *problem.components]
    head += [f"vs {versus} [95 %]"] if versus else []
    head += ["ms/decision", "trained on"]
    cells = [head, *(_cells(row, problem.components, versus is not None) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    widths[0] = max([widths[0], *(len(policy) for policy in table.failures)])
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, len(head) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    failed = [
        f"{policy.ljust(widths[0])}  no result: {why}" for policy, why in table.failures.items()
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:], *failed, "", *table_notes(table)])


def ranked(table: Table) -> list[Row]:
    """Return the rows of a table, best first."""
    problem = find_problem(table.problem)
    return sorted(table.rows, key=lambda row: -problem.score(row.mean))


def compared_with(table: Table) -> str | None:
    """Return the policy that the others are compared with, if there is one."""
    return next((row.versus["policy"] for row in table.rows if row.versus), None)


def table_notes(table: Table) -> list[str]:
    """Return sentences on what the numbers of a table mean."""
    problem, rows = find_problem(table.problem), ranked(table)
    beat = "exceed" if problem.higher_is_better else "fall below"
    return [
        f"{problem.title}, {case_text(table)}: {counted(rows[0].n, problem.sample)}, the same "
        f"for every policy; {problem.metric} in {problem.unit_in(table.case)}.",
        f"Intervals: bootstrap over {table.groups or problem.groups}; "
        f"differences are paired by {problem.sample}.",
        *(f"Input: {remark}." for remark in table.remarks),
        *(
            f"No policy can {beat} {row.upper_bound:.6f} here (certified by {row.policy})."
            for row in rows
            if row.upper_bound is not None
        ),
    ]


def case_text(table: Table) -> str:
    """Return a table's case in one line, as "synthetic x 20 jobs"."""
    problem = find_problem(table.problem)
    return " x ".join(
        _part_text(name, _value_text(problem, name, str(value)), name in problem.default_case)
        for name, value in table.case.items()
    )


def title_text(table: Table) -> str:
    """Return a table's case as a title of at most `LONGEST_TITLE` characters.

    Of paths only the last part is named; the notes of the table have the whole.
    """
    parts = {name: Path(str(value)).name or str(value) for name, value in table.case.items()}
    title = case_text(replace(table, case=parts))
    return title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 3]}..."


def _part_text(name: str, value: str, is_usual: bool) -> str:
    if name.startswith("num_"):
        return f"{value} {name.removeprefix('num_')}"
    says_nothing_alone = value.isdigit() or not is_usual
    return f"{name} {value}" if says_nothing_alone else value


def _value_text(problem: Problem, name: str, value: str) -> str:
    """Return a value of a case, whole numbers without a decimal point."""
    option = problem.case_options.get(name)
    if option is None or option.kind is str:  # a name or a path says what it says
        return value
    return ",".join(part.removesuffix(".0") for part in value.split(","))


def interval_text(ci95: tuple[float, float] | None, sign: str = "") -> str:
    """Return the ends of an interval; `sign` is "+" where both signs are to be shown."""
    return f"[{ci95[0]:{sign}.3f}, {ci95[1]:{sign}.3f}]" if ci95 is not None else "-"


def number_text(value: float | None, digits: int) -> str:
    """Return a number, or nothing where there is none."""
    return "" if value is None else f"{value:.{digits}f}"


def _cells(row: Row, components: tuple[str, ...], has_versus: bool) -> list[str]:
    cells = [row.policy, f"{row.mean:.4f} {interval_text(row.ci95)}"]
    cells += [number_text(row.components[name], 4) for name in components]
    if has_versus and row.versus:
        cells.append(f"{row.versus['mean']:+.4f} {interval_text(row.versus['ci95'], '+')}")
    elif has_versus:
        cells.append("")
    return [*cells, number_text(row.decision_ms, 3), row.trained_on]
