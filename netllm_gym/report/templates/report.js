"use strict";
// A click on a column's head sorts by it; a second click turns the order round. Cells without a
// value stay at the end.
for (const table of document.querySelectorAll("table.results")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const number = head.classList.contains("number");
    const last = head.getAttribute("aria-sort");
    const rising = last ? last === "descending" : !number;
    const order = (row) => row.cells[column].dataset.order;
    const rows = [...table.tBodies[0].rows].sort((one, other) => {
      const [a, b] = [order(one), order(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return (rising ? 1 : -1) * (number ? a - b : a.localeCompare(b));
    });
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  }));
}
// Pointing at a policy brings its line forward; a click in the legend takes the line away.
for (const section of document.querySelectorAll("section")) {
  const line = (row) => section.querySelector(`path[data-row="${row}"]`);
  const point = (row, on) => {
    section.classList.toggle("pointing", on);
    line(row).classList.toggle("on", on);
  };
  for (const source of section.querySelectorAll(".results tr[data-row], .legend button")) {
    const row = source.dataset.row;
    for (const event of ["mouseenter", "focus"]) source.addEventListener(event, () => point(row, true));
    for (const event of ["mouseleave", "blur"]) source.addEventListener(event, () => point(row, false));
  }
  for (const button of section.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      line(button.dataset.row).classList.toggle("away", !shown);
    });
  }
}
