
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
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
      const rows = [...body.rows].map((row) => [value(row, column), row]);
      rows.sort(([a], [b]) =>
        sign * (typeof a === "number" ? (a === b ? 0 : a < b ? -1 : 1) : a.localeCompare(b, undefined, { numeric: true })));
      body.append(...rows.map(([, row]) => row));
    });
  });
}
for (const gallery of document.querySelectorAll(".gallery")) {
  const form = gallery.querySelector("form.filter");
  const output = form.querySelector("output");
  const field = (name) => form.elements.namedItem(name);
  const cards = [...gallery.querySelectorAll(".card")].map((element) => ({
    element,
    labels: element.dataset.labels.split(" "),
    verdict: element.dataset.verdict,
    confidence: Number(element.dataset.confidence),
  }));
  const bound = (name, otherwise) => (field(name).value === "" ? otherwise : Number(field(name).value));
  const update = () => {
    const label = field("label").value;
    const verdict = field("verdict").value;
    const from = bound("from", 0);
    const to = bound("to", 100);
    let shown = 0;
    for (const card of cards) {
      const fits =
        (label === "" || card.labels.includes(label)) &&
        (verdict === "" || card.verdict === verdict) &&
        card.confidence >= from && card.confidence <= to;
      card.element.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    output.textContent = `${shown} of ${cards.length} pictures`;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => window.setTimeout(update));
  form.hidden = false;
  update();
}
