// Tables can be sorted by their columns; without JavaScript they stand in the order they were written in.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("question"));
        const value = (row) => {
          const cell = row.cells[column];
          const text = cell.dataset.v ?? cell.textContent.trim();
          return { text, number: text === "" || text === "–" ? -Infinity : Number(text.replace(/[,†\s]/g, "").replace("−", "-")) };
        };
        rows.sort((a, b) => {
          const x = value(a), y = value(b);
          const words = Number.isNaN(x.number) || Number.isNaN(y.number);
          const order = words ? y.text.localeCompare(x.text) : y.number === x.number ? 0 : y.number - x.number;
          return down ? order : -order;
        });
        body.append(...rows);
      }
    });
  });
}
