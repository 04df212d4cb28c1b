// Tables can be sorted by their columns; without JavaScript they stand in the order they were written in.
// '9.5 (9–10)' is sorted by its first number; '–', which is none, comes last from above.
const leading = (text) => {
  const found = text.replace(/[,\s]/g, "").replace("−", "-").match(/^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?/i);
  return found ? Number(found[0]) : -Infinity;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    const words = head.classList.contains("t");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("question"));
        const text = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
        rows.sort((a, b) => {
          const x = leading(text(a)), y = leading(text(b));
          const order = words ? text(b).localeCompare(text(a)) : y === x ? 0 : y - x;
          return down ? order : -order;
        });
        body.append(...rows);
      }
    });
  });
}
