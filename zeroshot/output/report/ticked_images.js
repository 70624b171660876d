// Ticked images: their paths to the clipboard, or as JSON lines with the keys path and label.
if (gallery) {
  const bar = gallery.root.querySelector(".ticks");
  const select = bar.querySelector("select");
  const said = bar.querySelector("output");
  if (gallery.cards.some((card) => card.given !== "")) select.append(new Option("the given label", "given"));
  gallery.names.forEach((name, key) => select.append(new Option(name, String(key))));
  const ticked = () => gallery.cards.filter((card) => card.ticked);
  const update = () => {
    bar.hidden = ticked().length === 0;
    bar.querySelector("b").textContent = `${ticked().length} ticked`;
    said.textContent = "";
  };
  const tick = (cards, on) => {
    for (const card of cards) { card.ticked = on; if (card.box) card.box.checked = on; }
    update();
  };
  const label = (card) => {
    const key = select.value === "answer" ? card.answer : select.value === "given" ? card.given : select.value;
    return key === "" ? null : gallery.names[key];
  };
  const actions = {
    page: () => tick(gallery.onPage(), true),
    none: () => tick(gallery.cards, false),
    copy: async () => {
      const paths = ticked().map((card) => card.path).join("\n");
      try { await navigator.clipboard.writeText(paths); said.textContent = "copied"; }
      catch { said.textContent = "this browser does not let a file copy; save JSONL instead"; }
    },
    save: () => {
      const lines = ticked().map((card) => JSON.stringify({ path: card.path, label: label(card) }) + "\n");
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
      link.download = "reviewed.jsonl";
      link.click();
      said.textContent = "saved as reviewed.jsonl";
      window.setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    },
  };
  bar.addEventListener("click", (event) => actions[event.target.dataset.do]?.());
  document.addEventListener("ticked", update);
}
