// What a user says about the selected images, its undo, and the bar on which that is said by a click.
import { post } from "./api.js";
import { images, keyOf, labelOf } from "./format.js";

const $ = (id) => document.getElementById(id);

export class Correcting {
  constructor(page) {
    this.page = page; // { board, trying(work), toast(text, undo), sort(), answers(), asked(), away(), like(), changed() }
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

  // One after the other: a key that is pressed before the last one is answered is said of the image that follows.
  inTurn(work) { return (this.turn = (this.turn ?? Promise.resolve()).then(work)); }

  // The selected images are `what`: { label }, or {} for "not this", or { clear: true }.
  say(what) { return this.inTurn(() => this.saySelected(what)); }

  async saySelected(what) {
    const { board } = this.page, { selection } = board, chosen = await selection.settled(), { focus, anchor } = selection;
    if (!chosen.length) return;
    const name = board.source.rows[focus.row]?.name, next = board.following, first = anchor.row === focus.row ? Math.min(focus.index, anchor.index) : focus.index;
    if (!(await this.send(chosen, what)) || selection.focus?.id !== focus.id || focus.row < 0) return;
    // Go on with the image that followed, wherever it stands now.
    const { rows } = board.source, index = rows.findIndex((one) => one.name === name);
    const at = next === undefined ? undefined : [...(board.items.get(name) ?? [])].find(([, item]) => item[0] === next)?.[0];
    if (rows[index]?.total) board.go(index, at ?? Math.min(first, rows[index].total - 1));
    else board.go(rows.findIndex((one, place) => place > index && one.total), 0);
    this.page.changed();
  }

  // Images by their numbers, wherever they stand, are a label.
  sayOf(chosen, label) { return this.inTurn(() => this.send(chosen, { label })); }

  async send(chosen, asked) {
    const answer = await this.page.trying(() => post("correct", { ...this.page.asked(), images: chosen, ...asked }));
    if (!answer) return false;
    const row = this.page.answers().includes(asked.label) ? "" : ", which has no row: it is not among the labels";
    const said = asked.label ? `${images(answer.images)} labelled ${asked.label}${row}` : asked.clear ? `forgot what was said about ${images(answer.images)}` : `${images(answer.images)}: not this`;
    this.page.toast(said, answer.images > 0);
    await this.page.sort();
    return true;
  }

  undo() { return this.inTurn(() => this.takeBack()); }

  async takeBack() {
    const answer = await this.page.trying(() => post("uncorrect"));
    if (!answer) return;
    this.page.toast(answer.images ? `undone for ${images(answer.images)}` : "there is nothing to undo");
    await this.page.sort();
  }

  show() {
    const { count, focus } = this.page.board.selection;
    $("picked").hidden = !count || this.page.away();
    if (!count) return;
    const answers = this.page.answers();
    $("picked-count").textContent = images(count) + (focus.gone ? ", not among these" : "");
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
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return false;
    const answers = this.page.answers();
    const does = { x: () => this.say({}), c: () => this.say({ clear: true }), u: () => this.undo(), m: () => this.page.like() }[event.key];
    if (does) { does(); return true; }
    const label = labelOf(event.key, answers.length);
    if (label < 0 || !this.page.board.selection.focus) return false;
    this.say({ label: answers[label] });
    return true;
  }
}
