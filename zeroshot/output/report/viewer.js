// One image, enlarged, with its probabilities.
if (gallery) {
  const dialog = gallery.root.querySelector("dialog.viewer");
  let current = null;
  const open = (card) => {
    current = card;
    const image = card.element.querySelector("img");
    const large = dialog.querySelector("img");
    large.hidden = !image;
    if (image) { large.src = image.src; large.alt = image.alt; }
    const given = card.given === "" ? "" : `given ${gallery.names[card.given]}, `;
    const answer = card.answer === "" ? "unknown" : gallery.names[card.answer];
    dialog.querySelector(".title").textContent = `${given}answer ${answer}`;
    dialog.querySelector(".path").textContent = card.element.querySelector(".path").textContent;
    const top = card.element.dataset.top.split(" ").filter(Boolean).map((pair) => pair.split(":"));
    dialog.querySelector("tbody").replaceChildren(...top.map(([key, percent]) => {
      const row = document.createElement("tr");
      const name = Object.assign(document.createElement("th"), { textContent: gallery.names[key], scope: "row" });
      const meter = Object.assign(document.createElement("meter"), { max: 100, value: Number(percent) });
      const bar = document.createElement("td");
      bar.append(meter);
      if (key === card.given) name.className = "true";
      row.append(name, bar, Object.assign(document.createElement("td"), { textContent: `${Number(percent).toFixed(1)}%`, className: "number" }));
      return row;
    }));
    const more = gallery.names.length - top.length;
    dialog.querySelector(".rest").textContent = more > 0 ? `and ${more} more labels with less` : "";
    if (!dialog.open) dialog.showModal();
  };
  const step = (by) => {
    const all = gallery.shown();
    const next = all[all.indexOf(current) + by];
    if (next) open(next);
  };
  document.addEventListener("view-card", (event) => open(event.detail));
  dialog.addEventListener("keydown", (event) => { if (event.key === "ArrowLeft") step(-1); if (event.key === "ArrowRight") step(1); });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || "close" in event.target.dataset) dialog.close();
    else if (event.target.dataset.step) step(Number(event.target.dataset.step));
  });
}
// A link to a folded section opens it.
for (const link of document.querySelectorAll("a[href^='#']")) {
  link.addEventListener("click", () => {
    const folded = document.querySelector(`${link.getAttribute("href")} > details`);
    if (folded) folded.open = true;
  });
}
