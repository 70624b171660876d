// The map of the folder: a dot an image, small images once they have room, a part of it selected and named.
import { post, postForNumbers } from "./api.js";
import { images, number } from "./format.js";
import { MapCanvas } from "./map_canvas.js";
import { NONE, WHOLE, inside, moved, nearest, setAside, toCss, zoomed } from "./map_geometry.js";

const $ = (id) => document.getElementById(id);
const AGAIN = 400; // milliseconds, until a map that is in work is asked for again
const LATER = 3000; // and one that was not given
const MOST_NAMED = 50000;
const NEAR = 30; // pixels from an image's place, within which a double click opens it
const MOST_IN_LEGEND = 12;

export class FolderMap {
  constructor(page) {
    this.page = page; // { trying(work), asked(), answers(), addLabel(name, says), label(images, name), open(image), toggled() }
    this.canvas = new MapCanvas($("map-canvas"), (list) => this.thumbs(list));
    this.selected = [];
    this.problem = "";
    this.frame = 0.4; // of the window, either way: what Enter selects
    this.pointers = new Map();
    this.outline = null;
    const canvas = $("map-canvas");
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { left, top } = canvas.getBoundingClientRect();
      this.see(zoomed(this.canvas.view, ...this.canvas.size, Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), event.clientX - left, event.clientY - top));
    }, { passive: false });
    canvas.addEventListener("dblclick", (event) => this.openNear(...this.place(event), NEAR));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => this.showFrame());
    canvas.addEventListener("blur", () => this.showFrame());
    $("map-name").addEventListener("submit", (event) => { event.preventDefault(); this.name(event.submitter?.value === "label"); });
    $("map").addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); this.escape(); } });
    $("map-all").addEventListener("click", () => this.see(WHOLE));
    $("map-in").addEventListener("click", () => this.zoom(1.6));
    $("map-out").addEventListener("click", () => this.zoom(1 / 1.6));
  }

  get isOpen() { return !$("map").hidden; }

  open() {
    $("map").hidden = false;
    $("board").hidden = true;
    $("open-map").setAttribute("aria-pressed", "true");
    this.page.toggled();
    this.canvas.resize();
    this.refresh();
    $("map-canvas").focus();
  }

  close() {
    if (!this.isOpen) return;
    const held = document.activeElement === document.body || $("map").contains(document.activeElement);
    this.select([]);
    clearTimeout(this.timer);
    $("map").hidden = true;
    $("board").hidden = false;
    $("open-map").setAttribute("aria-pressed", "false");
    this.page.toggled();
    if (held) $("board").focus(); // and not out of a search that is being typed
  }

  // Ask for the dots and what they are sorted into, again and again while they are worked out.
  async refresh() {
    clearTimeout(this.timer);
    if (!this.isOpen) return;
    const answer = await this.page.trying(async () => ({ points: await postForNumbers("map", this.page.asked()) }));
    if (!this.isOpen) return;
    const points = answer?.points;
    if (!points) {
      if (!answer || !this.canvas.points.length) this.say(answer ? "The map is being worked out …" : "The map cannot be shown: the server did not give it");
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.refresh(), answer ? AGAIN : LATER);
      return;
    }
    const placed = setAside(points);
    this.count = placed.count;
    this.canvas.show(placed.points, this.page.answers());
    this.showLegend(placed.points);
    this.describe();
  }

  showLegend(points) {
    const answers = this.page.answers(), counts = new Uint32Array(answers.length);
    for (let dot = (points.length / 3) * 2; dot < points.length; dot += 1) if (points[dot] !== NONE) counts[points[dot]] += 1;
    const order = [...answers.keys()].filter((index) => counts[index]).sort((a, b) => counts[b] - counts[a]);
    $("map-legend").replaceChildren(...order.slice(0, MOST_IN_LEGEND).map((index) => {
      const line = document.createElement("li"), dot = document.createElement("i");
      dot.style.background = toCss(this.canvas.palette[index]);
      line.append(dot, answers[index]);
      return line;
    }));
    if (order.length > MOST_IN_LEGEND) $("map-legend").append(Object.assign(document.createElement("li"), { textContent: `and ${order.length - MOST_IN_LEGEND} more` }));
  }

  say(text) { $("map-status").textContent = text; }

  describe() {
    if (this.problem) { this.say(this.problem); return; }
    const { points, view } = this.canvas, shown = images(this.count ?? 0);
    this.say(!this.count ? "There are no images on the map yet" : this.selected.length ? `${number(this.selected.length)} of ${shown} selected` : `${shown}, ${view.zoom.toFixed(1)} times enlarged`);
  }

  async thumbs(list) {
    const answer = await this.page.trying(() => post("thumbs", { images: list }));
    return answer?.items ?? [];
  }

  see(view) { this.canvas.see(view); if (!this.selected.length) this.describe(); }
  zoom(factor) { this.see(zoomed(this.canvas.view, ...this.canvas.size, factor)); }

  select(dots) {
    this.selected = dots;
    this.problem = "";
    this.canvas.mark(dots);
    $("map-name").hidden = !dots.length;
    if (this.canvas.points.length) this.describe();
  }

  escape() {
    if (this.selected.length) { this.select([]); $("map-canvas").focus(); } else this.close();
  }

  // Dragging moves the map; with Shift, or where "Select" is on, it draws an outline. Two fingers enlarge.
  down(event) {
    const canvas = $("map-canvas");
    canvas.setPointerCapture(event.pointerId);
    const at = this.place(event);
    this.pointers.set(event.pointerId, at);
    this.outline = this.pointers.size === 1 && (event.shiftKey || $("map-select").checked) ? [at] : null;
    this.canvas.draft(this.outline);
  }

  place(event) {
    const { left, top } = $("map-canvas").getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const at = this.place(event), size = this.canvas.size;
    if (this.outline) {
      if (Math.hypot(at[0] - this.outline.at(-1)[0], at[1] - this.outline.at(-1)[1]) > 3) this.outline.push(at);
      this.canvas.draft(this.outline);
    } else if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const far = (one) => Math.max(8, Math.hypot(one[0] - other[0], one[1] - other[1]));
      this.see(zoomed(this.canvas.view, ...size, far(at) / far(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2));
    } else this.see(moved(this.canvas.view, ...size, at[0] - before[0], at[1] - before[1]));
    this.pointers.set(event.pointerId, at);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (!this.outline) return;
    const outline = this.outline;
    this.outline = null;
    this.canvas.draft(null);
    if (event.type === "pointerup" && outline.length > 2) this.enclose(outline);
  }

  enclose(outline) {
    this.select(inside(this.canvas.points, this.canvas.view, ...this.canvas.size, outline));
    if (this.selected.length) $("map-label").focus();
    else this.say("Nothing is inside");
  }

  openNear(x, y, most) {
    const dot = nearest(this.canvas.points, this.canvas.view, ...this.canvas.size, x, y, most);
    if (dot >= 0) this.page.open(dot);
  }

  showFrame() { this.canvas.frame($("map-canvas").matches(":focus-visible") ? this.frame : 0); }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [width, height] = this.canvas.size, arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) { this.frame = Math.min(1, Math.max(0.05, this.frame * (arrow[0] + arrow[1] > 0 ? 1 / 1.25 : 1.25))); this.showFrame(); }
    else if (arrow) this.see(moved(this.canvas.view, width, height, arrow[0] * width / 8, arrow[1] * height / 8));
    else if (event.key === "+" || event.key === "=") this.zoom(1.6);
    else if (event.key === "-") this.zoom(1 / 1.6);
    else if (event.key === "0") this.see(WHOLE);
    else if (event.key === " ") this.openNear(width / 2, height / 2, (Math.min(width, height) * this.frame) / 2);
    else if (event.key === "Enter") {
      const [x, y, right, down] = [width * (1 - this.frame) / 2, height * (1 - this.frame) / 2, width * (1 + this.frame) / 2, height * (1 + this.frame) / 2];
      this.enclose([[x, y], [right, y], [right, down], [x, down]]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // A name joins the labels; if it is to be said of the images too, they are corrections.
  async name(says) {
    const name = $("map-label").value.trim();
    if (!name) { $("map-label").focus(); return; }
    if (says && this.selected.length > MOST_NAMED) { this.say(`${number(MOST_NAMED)} images at once are the most; select fewer`); return; }
    const chosen = this.selected;
    this.select([]);
    $("map-canvas").focus();
    const problem = await this.page.addLabel(name, says);
    if (!problem && (!says || (await this.page.label(chosen, name)))) { $("map-label").value = ""; return; }
    this.select(chosen); // as it was, to be named otherwise
    this.problem = problem; // until something else is selected
    this.describe();
  }
}
