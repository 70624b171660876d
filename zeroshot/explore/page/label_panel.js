// Labels, templates, threshold: what is typed on the left, and the numbers that belong to it.
import { accuracy, images, number, percent, spread, typedAs } from "./format.js";

const TYPED = "zeroshot-typed", FIELDS = ["labels", "set", "templates", "threshold"];
const $ = (id) => document.getElementById(id);
const item = (text) => Object.assign(document.createElement("li"), { textContent: text });

export class Side {
  constructor(page) {
    this.page = page; // { sort(), threshold(), pair(first, second) }
    this.histogram = [];
    this.answers = [];
    this.begun = this.unusable = "";
    this.usable = { labels: "" }; // what was sorted by last
    $("labels").addEventListener("input", () => page.sort());
    $("templates").addEventListener("input", () => page.sort());
    $("set").addEventListener("change", () => { this.showTemplates(); page.sort(); });
    $("threshold").addEventListener("input", () => { this.showThreshold(); page.threshold(); });
    new ResizeObserver(() => this.draw()).observe($("histogram"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    // A wide window has no line to open it by.
    const narrow = matchMedia("(max-width: 56rem)"), fit = () => { $("more").open = !narrow.matches; };
    narrow.addEventListener("change", fit);
    fit();
  }

  begin(start) {
    $("labels").value = start.labels;
    $("set").replaceChildren(...start.sets.map((name) => new Option(name, name)), new Option("write your own …", ""));
    $("set").value = start.templates.length ? "" : start.set;
    $("templates").value = start.templates.join("\n");
    $("threshold").value = start.threshold;
    this.begun = JSON.stringify([start.folder, start.labels, start.set, start.templates, start.threshold]);
    const typed = JSON.parse(sessionStorage.getItem(TYPED) ?? "{}");
    if (typed.begun === this.begun) {
      for (const name of FIELDS) $(name).value = typed[name];
      this.usable = typed.usable ?? this.usable;
    }
    this.showTemplates();
    this.showThreshold();
  }

  // A reload finds what was typed, unless the server was started with something else.
  remember() {
    sessionStorage.setItem(TYPED, JSON.stringify({ begun: this.begun, usable: this.usable, ...Object.fromEntries(FIELDS.map((name) => [name, $(name).value])) }));
  }

  asked() {
    const own = $("set").value === "" ? $("templates").value.split("\n").map((line) => line.trim()).filter(Boolean) : [];
    return { labels: $("labels").value, set: $("set").value || "general", templates: own };
  }

  // What to sort by: what is typed, unless that was refused; then what was usable before.
  asking() {
    const typed = this.asked();
    return JSON.stringify(typed) === this.unusable ? this.usable : typed;
  }

  used(asked) {
    if (asked === this.usable) return; // what is typed is still refused
    this.usable = asked;
    this.unusable = "";
    this.showProblem(null);
    this.remember();
  }

  // What was asked for cannot be used; gives whether there is something else to sort by.
  refused(asked, error) {
    if (asked !== this.usable) { this.unusable = JSON.stringify(asked); this.showProblem(error); return true; }
    this.usable = { labels: "" };
    return asked.labels !== "";
  }

  // Whether a label is among those that are typed, and whether these are YAML, which is edited by hand.
  has(name) { return this.answers.includes(name.replace(/\s+/g, " ").normalize("NFC")); }
  get isYaml() { return /^(labels|groups)\s*:/m.test($("labels").value); }

  // A name joins the labels, and the page is sorted by them; gives a line that says why not, or nothing.
  async addLabel(name, isThere, sort) {
    if (this.has(name)) return isThere ? "" : `${name} is among the labels already`;
    if (this.isYaml) return "The labels are YAML, which is edited by hand: add the name there first";
    const text = $("labels").value;
    $("labels").value = `${text.trimEnd()}${text.trim() ? "\n" : ""}${typedAs(name)}`;
    if (await sort()) return "";
    const problem = this.problem || "the server does not answer";
    $("labels").value = text;
    await sort();
    return problem;
  }

  threshold() { return Number($("threshold").value); }

  nudge(by) {
    $("threshold").value = this.threshold() + by;
    this.showThreshold();
    this.page.threshold();
  }

  showTemplates() { $("templates").hidden = $("set").value !== ""; }
  showThreshold() { $("threshold-value").textContent = `${(100 * this.threshold()).toFixed(1)} %`; }

  get problem() { return $("problem").textContent || $("templates-problem").textContent; }

  showProblem(error) {
    for (const id of ["problem", "templates-problem"]) {
      const here = error && (id === "problem") === (error.field !== "templates");
      $(id).hidden = !here;
      $(id).textContent = here ? [error.message, error.hint].filter(Boolean).join(" – ") : "";
    }
  }

  show(described) {
    const sorted = Boolean(described.answers);
    this.answers = described.answers ?? [];
    this.histogram = described.histogram ?? [];
    $("warnings").replaceChildren(...[...(described.warnings ?? []), ...(described.notes ?? [])].map(item));
    $("threshold-field").hidden = !sorted;
    if (!sorted) { $("accuracy-field").hidden = $("pairs-field").hidden = true; return; }
    const answered = described.images - described.unknown;
    $("at-threshold").textContent = `${number(answered)} of ${images(described.images)} answered, ${number(described.unknown)} unknown`;
    $("precision").hidden = described.precision === null;
    $("precision").textContent = described.precision === null ? "" : `Calibrated: expect ${percent(described.precision)} of the answers to be right`;
    $("accuracy-field").hidden = !described.accuracy;
    if (described.accuracy) {
      const found = accuracy(described.accuracy);
      $("accuracy").replaceChildren(Object.assign(document.createElement("b"), { textContent: found.value }), ` ${found.whole}; ${found.answered}`);
    }
    $("pairs-field").hidden = !described.pairs.length;
    $("pairs").replaceChildren(...described.pairs.map(([first, second, count]) => {
      const line = document.createElement("li"), button = document.createElement("button"), many = document.createElement("span");
      button.type = "button";
      many.textContent = number(count);
      many.title = `${images(count)} with both near each other`;
      button.append(`${described.answers[first]} or ${described.answers[second]}`, many);
      button.addEventListener("click", () => this.page.pair(first, second));
      line.append(button);
      return line;
    }));
    $("histogram").ariaLabel = spread(this.histogram);
    this.draw();
  }

  // Probabilities of the best answers, those below the threshold pale.
  draw() {
    const canvas = $("histogram"), width = canvas.clientWidth, height = 48, scale = window.devicePixelRatio || 1;
    if (!width) return;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    pen.scale(scale, scale);
    const most = Math.max(1, ...this.histogram), step = width / Math.max(1, this.histogram.length);
    this.histogram.forEach((count, index) => {
      const tall = count ? Math.max(1.5, Math.sqrt(count / most) * (height - 4)) : 0;
      pen.globalAlpha = (index + 0.5) / this.histogram.length < this.threshold() ? 0.3 : 1;
      pen.fillStyle = style.getPropertyValue("--accent");
      pen.fillRect(index * step + 0.5, height - tall, Math.max(1, step - 1), tall);
    });
  }
}
