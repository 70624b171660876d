// What a user says about the selected images, its undo, and the bar on which that is said by a click.
import { post } from "./api.js";
import { images, keyOf, labelOf } from "./format.js";

const $ = (id) => document.getElementById(id);

export class Correcting {
  constructor(page) {
    this.page = page; // { board, trying(work), toast(text, undo), sort(), answers(), asked(), like(), changed() }
    $("picked").addEventListener("click", (event) => {
      const what = event.target.closest("button")?.dataset.do;
      if (what === "not") this.say({});
      else if (what === "clear") this.say({ clear: true });
      else if (what === "like") page.like();
    });
    $("picked-label").addEventListener("change", () => {
      const label = $("picked-label").value.trim();
      $("picked-label").value = "";
      if (label) this.say({ label });
    });
  }

  // The selected images are `what`: { label }, or {} for "not this", or { clear: true }.
  async say(what) {
    const { board } = this.page, range = board.range(), asked = this.page.asked();
    if (!range || !asked) return;
    const row = board.source.rows[range.row], next = board.item(range.row, range.to + 1)?.[0];
    if (!(await this.send({ ...asked, row: row.name, ranges: [[range.from, range.to + 1]], ...what }))) return;
    // Go on with the image that followed, wherever it stands now.
    const kept = board.items.get(row.name);
    const at = next === undefined ? -1 : [...(kept ?? [])].find(([, item]) => item[0] === next)?.[0] ?? -1;
    const { rows } = board.source;
    const index = rows.findIndex((one) => one.name === row.name);
    if (rows[index]?.total) board.go(index, at >= 0 ? at : Math.min(range.from, rows[index].total - 1));
    else board.go(rows.findIndex((one, place) => place > index && one.total), 0);
    this.page.changed();
  }

  // Images by their numbers, wherever they stand, are a label.
  sayOf(chosen, label) { return this.send({ ...this.page.asked(), images: chosen, label }); }

  async send(asked) {
    const answer = await this.page.trying(() => post("correct", asked));
    if (!answer) return false;
    const said = asked.label ? `${images(answer.images)} labelled ${asked.label}` : asked.clear ? `forgot what was said about ${images(answer.images)}` : `${images(answer.images)}: not this`;
    this.page.toast(said, answer.images > 0);
    await this.page.sort();
    return true;
  }

  async undo() {
    const answer = await this.page.trying(() => post("uncorrect"));
    if (!answer) return;
    this.page.toast(answer.images ? `undone for ${images(answer.images)}` : "there is nothing to undo");
    await this.page.sort();
    this.page.changed();
  }

  show() {
    const range = this.page.board.range();
    $("picked").hidden = !range;
    if (!range) return;
    const answers = this.page.answers();
    $("picked-count").textContent = images(range.to - range.from + 1);
    if (this.shown === answers) return;
    this.shown = answers;
    $("picked-keys").replaceChildren(...answers.slice(0, 29).map((name, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(Object.assign(document.createElement("kbd"), { textContent: keyOf(index) }), ` ${name}`);
      button.addEventListener("click", () => this.say({ label: name }));
      return button;
    }));
    $("picked-labels").replaceChildren(...answers.slice(0, 1000).map((name) => new Option(name)));
  }

  // A key that was pressed outside of any field; true if it was one of ours.
  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const answers = this.page.answers();
    const does = { x: () => this.say({}), c: () => this.say({ clear: true }), u: () => this.undo(), m: () => this.page.like() }[event.key];
    if (does) { does(); return true; }
    const label = labelOf(event.key, answers.length);
    if (label < 0 || !this.page.board.focus) return false;
    this.say({ label: answers[label] });
    return true;
  }
}
