// Searching: text, images of the folder, images dropped onto the page, and sums of them.
import { post, postImage } from "./api.js";
import { cosine } from "./format.js";

const $ = (id) => document.getElementById(id);

export class Search {
  constructor(page) {
    this.page = page; // { search(), typed(), trying(work), cut(), toast(text), most() }
    this.parts = [];
    this.scores = [];
    this.cutoff = null; // all images, until one is chosen
    this.last = "";
    $("search").addEventListener("submit", (event) => { event.preventDefault(); page.search(); });
    $("query").addEventListener("input", () => page.typed());
    $("cutoff").addEventListener("input", () => { this.cutoff = $("cutoff").value === $("cutoff").min ? null : Number($("cutoff").value); this.showCutoff(); page.cut(); });
    this.takeDrops();
  }

  get active() { return this.parts.length > 0 || $("query").value.trim() !== ""; }

  // What is searched for; the cut-off of something else is forgotten.
  asked() {
    const asked = {
      text: $("query").value,
      images: this.parts.filter((part) => part.image !== undefined).map((part) => [part.weight, part.image]),
      drops: this.parts.filter((part) => part.drop).map((part) => [part.weight, part.drop]),
    };
    if (this.last !== JSON.stringify(asked)) this.cutoff = null;
    this.last = JSON.stringify(asked);
    return asked;
  }

  // Ask for the nearest; what cannot be read gives none of them, and a line that says why.
  async find(asked) {
    try { return { problem: "", ...(await post("search", { ...this.asked(), ...asked })) }; } catch (error) {
      if (error.status !== 400) throw error;
      return { problem: [error.message, error.hint].filter(Boolean).join(" – "), images: 0, rows: [], scores: [], found: [] };
    }
  }

  clear() {
    for (const part of this.parts) if (part.local) URL.revokeObjectURL(part.address);
    this.parts = [];
    $("query").value = "";
    this.cutoff = null;
    this.showParts();
  }

  like(item) {
    if (this.parts.some((part) => part.image === item[0])) return;
    this.parts.push({ image: item[0], weight: 1, address: `/thumb/${item[0]}?s=${item[2]}`, name: item[3] });
    this.showParts();
    this.page.search();
  }

  showParts() {
    const buttons = () => [...$("chips").querySelectorAll("button")], held = buttons().indexOf(document.activeElement);
    $("chips").replaceChildren(...this.parts.map((part) => {
      const chip = document.createElement("span"), image = document.createElement("img");
      const sign = document.createElement("button"), away = document.createElement("button");
      chip.className = "chip";
      image.addEventListener("error", () => image.replaceWith(part.name)); // a kind that the browser does not show
      image.src = part.address;
      image.alt = image.title = part.name;
      sign.type = away.type = "button";
      sign.textContent = part.weight > 0 ? "+" : "−";
      sign.setAttribute("aria-label", part.weight > 0 ? `more like ${part.name}; press for less` : `less like ${part.name}; press for more`);
      away.textContent = "×";
      away.setAttribute("aria-label", `remove ${part.name}`);
      sign.addEventListener("click", () => { part.weight = -part.weight; this.showParts(); this.page.search(); });
      away.addEventListener("click", () => {
        if (part.local) URL.revokeObjectURL(part.address);
        this.parts = this.parts.filter((other) => other !== part);
        this.showParts();
        this.page.search();
      });
      chip.append(sign, image, away);
      return chip;
    }));
    if (held >= 0) (buttons()[Math.min(held, buttons().length - 1)] ?? $("query")).focus(); // the button that was pressed is gone
  }

  // The range of the cut-off is that of the cosines found.
  showScores(scores) {
    this.scores = scores;
    const input = $("cutoff");
    if (!scores.length) return;
    input.min = Math.floor(200 * scores[scores.length - 1]) / 200;
    input.max = Math.ceil(200 * scores[0]) / 200;
    input.value = this.cutoff ?? input.min;
    this.showCutoff();
  }

  showCutoff() { $("cutoff-value").textContent = cosine(this.cutoff ?? Number($("cutoff").min)); }
  get least() { return this.cutoff ?? -1; }

  takeDrops() {
    let inside = 0;
    const holdsFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    const shade = (on) => document.body.classList.toggle("dropping", on);
    addEventListener("dragenter", (event) => { if (holdsFile(event)) { inside += 1; shade(true); } });
    addEventListener("dragleave", () => { inside = Math.max(0, inside - 1); if (!inside) shade(false); });
    addEventListener("dragover", (event) => { if (holdsFile(event)) event.preventDefault(); });
    addEventListener("drop", (event) => {
      inside = 0;
      shade(false);
      const file = event.dataTransfer?.files?.[0];
      if (!file) return;
      event.preventDefault();
      this.drop(file);
    });
    addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
      if (file) { event.preventDefault(); this.drop(file); }
    });
  }

  async drop(file) {
    const most = this.page.most();
    if (file.size > most) { this.page.toast(`${file.name} has ${Math.ceil(file.size / 1e6)} MB; ${Math.floor(most / 1e6)} MB are the most`); return; }
    const answer = await this.page.trying(() => postImage(file));
    if (!answer) return;
    this.parts.push({ drop: answer.drop, weight: 1, local: true, address: URL.createObjectURL(file), name: file.name || "the dropped image" });
    this.showParts();
    this.page.search();
  }
}
