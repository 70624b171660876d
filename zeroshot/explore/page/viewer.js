// One image large, with everything that is known about it.
import { post } from "./api.js";
import { cosine, percent } from "./format.js";

const $ = (id) => document.getElementById(id);
const cell = (name, text) => Object.assign(document.createElement(name), { textContent: text });

export class Viewer {
  constructor(page) {
    this.page = page; // { board, trying(work), asked(), key(event), like(), say(label), keyOf(label) }
    this.dialog = $("viewer");
    this.asked = 0;
    this.dialog.addEventListener("click", (event) => {
      const data = event.target.closest("button")?.dataset ?? {};
      if (event.target === this.dialog || "close" in data) this.dialog.close();
      else if (data.step) this.step(Number(data.step));
      else if ("like" in data) { this.dialog.close(); page.like(); }
    });
    this.dialog.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, summary")) return;
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") { event.preventDefault(); this.step(event.key === "ArrowLeft" ? -1 : 1); }
      else if (page.key(event)) event.preventDefault();
    });
    this.dialog.addEventListener("close", () => { $("viewer-image").removeAttribute("src"); this.filled = ""; page.board.refocus(); });
  }

  get isOpen() { return this.dialog.open; }

  step(by) {
    if (this.page.board.selection.focus?.row < 0) return; // opened on the map, where none is the next
    this.page.board.step(by < 0 ? "ArrowLeft" : "ArrowRight", false);
    this.open();
  }

  // Show the image that the board's focus is on, and no other is selected any longer.
  async open() {
    const { selection } = this.page.board;
    await selection.settled();
    selection.narrow();
    const id = selection.focus?.id ?? null;
    if (id !== null) { this.page.board.refocus(); await this.show(id); } else if (this.isOpen) this.dialog.close();
  }

  // What is said of the image may have become something else.
  refresh() { if (this.isOpen) this.show(this.id); }

  async show(id) {
    this.id = id;
    if (!this.isOpen) this.dialog.showModal();
    const asked = (this.asked += 1);
    const shown = await this.page.trying(() => post("image", { image: id, ...this.page.asked() }));
    if (!shown || asked !== this.asked || !this.isOpen) return;
    this.fill(shown);
  }

  // A label's name, which says when pressed that the image is this.
  sayer(name) {
    const key = this.page.keyOf(name);
    if (key === null) return name;
    const button = document.createElement("button");
    button.type = "button";
    button.title = `Label it ${name}`;
    if (key) button.append(cell("kbd", key), " ");
    button.append(name);
    button.addEventListener("click", () => this.page.say(name));
    return button;
  }

  fill(shown) {
    const filled = JSON.stringify(shown);
    if (filled === this.filled) return; // nothing else was said of it: what has the focus keeps it
    this.filled = filled;
    const image = $("viewer-image");
    if (image.getAttribute("src") !== shown.large) image.src = shown.large;
    image.alt = shown.name;
    $("viewer-title").textContent = !shown.top ? shown.name : shown.row ? `${shown.row[0]} ${percent(shown.row[1])}` : `unknown: ${shown.top[0][0]} ${percent(shown.top[0][1])}`;
    $("viewer-path").textContent = shown.path;
    const said = [shown.problem && `It cannot be shown: ${shown.problem}.`, shown.label && `You said: ${shown.label}.`, shown.refused.length && `You said it is not: ${shown.refused.join(", ")}.`];
    $("viewer-said").textContent = said.filter(Boolean).join(" ");
    const rows = [...(shown.top ?? []), ...(shown.background ?? []).map(([name, ...rest]) => [`${name} (background)`, ...rest])];
    const held = document.activeElement.closest("#viewer-top button")?.title;
    $("viewer-top").replaceChildren(...rows.map(([name, probability, similarity]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th"), bar = document.createElement("td");
      head.scope = "row";
      head.append(this.sayer(name));
      bar.append(Object.assign(document.createElement("meter"), { max: 1, value: probability, ariaHidden: "true" })); // its number stands beside it
      row.append(head, Object.assign(cell("td", percent(probability)), { className: "number" }), bar, Object.assign(cell("td", cosine(similarity)), { className: "number" }));
      return row;
    }));
    if (held) ([...$("viewer-top").querySelectorAll("button")].find((one) => one.title === held) ?? this.dialog.querySelector("[autofocus]")).focus();
    $("viewer-top").closest("table").hidden = !rows.length;
    const more = (shown.labels ?? 0) - (shown.top ?? []).length;
    $("viewer-rest").textContent = more > 0 ? `and ${more} more labels with less` : "";
    $("viewer-prompts").closest("details").hidden = !shown.prompts;
    $("viewer-prompts-title").textContent = shown.prompts ? `Prompts behind ${shown.prompts_of}` : "";
    $("viewer-prompts").replaceChildren(...(shown.prompts ?? []).map((prompt) => cell("li", prompt)));
    $("viewer-facts").replaceChildren(...Object.entries(shown.facts).flatMap(([name, value]) => [cell("dt", name), cell("dd", value)]));
  }
}
