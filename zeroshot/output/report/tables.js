// Tables that sort; long ones show their two ends and can be searched.
for (const table of document.querySelectorAll("table.sortable")) {
  const ENDS = 20, LONG = 100;
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const all = [...body.rows];
  const search = document.createElement("input");
  const between = document.createElement("tr");
  between.append(Object.assign(document.createElement("td"), { colSpan: headings.length, className: "between" }));
  const lay = () => {
    const wanted = search.value.trim().toLowerCase();
    const found = wanted ? all.filter((row) => row.cells[0].textContent.toLowerCase().includes(wanted)) : all;
    const cut = !wanted && all.length > LONG;
    const rows = cut ? [...all.slice(0, ENDS), between, ...all.slice(-ENDS)] : found;
    between.cells[0].textContent = `${all.length - 2 * ENDS} more: search for them`;
    body.replaceChildren(...rows);
  };
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = Number.parseFloat(text);
    return headings[column].classList.contains("number") ? (Number.isNaN(number) ? -Infinity : number) : text;
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const sign = descending ? -1 : 1;
      const keys = new Map(all.map((row) => [row, value(row, column)]));
      all.sort((first, second) => {
        const a = keys.get(first), b = keys.get(second);
        return sign * (typeof a === "number" ? (a === b ? 0 : a < b ? -1 : 1) : a.localeCompare(b, undefined, { numeric: true }));
      });
      lay();
    });
  });
  if (all.length > LONG) {
    search.type = "search";
    search.className = "search";
    search.placeholder = `Search ${all.length} labels`;
    search.setAttribute("aria-label", "Search labels");
    search.addEventListener("input", lay);
    table.parentElement.before(search);
    lay();
  }
}
