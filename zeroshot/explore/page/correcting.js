// Sends corrections of the selected images to the server, undoes them, and handles the bar of buttons that make them.
import { post } from "./api.js";
import { corrected, images, keyOf, labelOf } from "./format.js";

const $ = (id) => document.getElementById(id);

export class Correcting {
  constructor(page) {
    this.page = page; // { board, trying(work), toast(text, undo), sort(), sortNow(), answers(), asked(), away(), like(), changed() }
    $("picked").addEventListener("click", (event) => {
      const what = event.target.closest("button")?.dataset.do;
      if (what === "not") this.say({});
      else if (what === "clear") this.say({ clear: true });
      else if (what === "like") page.like();
    });
    $("picked-label").addEventListener("keydown", (event) => {
      if ((event.key !== "Enter" && event.key !== "Escape") || event.isComposing) return;
      const label = event.key === "Enter" ? $("picked-label").value.trim() : ""; // only Enter says it
      $("picked-label").value = "";
      if (label) this.say({ label });
    });
  }

  // One after the other: corrections are kept in the order in which they were said.
  inTurn(work) { return (this.turn = (this.turn ?? Promise.resolve()).then(work)); }

  // The selected images are `what`: { label }, or {} for "not this", or { clear: true }. They are those selected now, unless
  // the page is about to go on from them: a key that is pressed meanwhile is said of the image that follows.
  say(what) {
    const { focus } = this.page.board.selection;
    if (!focus) return;
    const chosen = this.leaving?.focus === focus ? this.leaving.next : this.choose();
    const next = this.inTurn(async () => this.saySelected(await chosen, what));
    const leaving = (this.leaving = focus.row < 0 && this.page.board.sought !== focus ? null : { focus, next });
    next.finally(() => { if (this.leaving === leaving) this.leaving = null; });
  }

  // What is selected now, and the image that follows.
  async choose() {
    const { board } = this.page, { focus } = board.selection, chosen = board.selection.chosen();
    if (board.sought === focus) await board.placed();
    const row = board.source.rows[focus.row];
    const [ids, next] = await Promise.all([chosen, row && board.selection.focus === focus ? board.following() : null]);
    return { ids, next, focus, name: row?.name };
  }

  // Keep what is said, and go on with the image that follows; gives it as `choose` does, or null where none does.
  async saySelected(chosen, what) {
    if (!chosen?.ids.length) return null;
    const { board } = this.page, { ids, next, focus, name } = chosen;
    if (!(await this.send(ids, what, name !== undefined && next === null ? "; the row ends here" : ""))) return null;
    const here = name !== undefined && board.selection.focus === focus;
    if (here && next === null) { board.release(); this.leave(name); return null; }
    if (here) { board.goTo(name, next); this.page.changed(); }
    this.page.sort();
    if (here) return this.choose();
    if (name === undefined || next === null) return null;
    return { ids: [next], next: await board.from(name, (board.indexOf(name, next) ?? Infinity) + 1), focus: null, name };
  }

  // At the end of a row nothing is selected any longer; where that emptied it, the next row's first image is.
  async leave(name) {
    const { board } = this.page;
    await this.page.sortNow();
    const { rows } = board.source, index = rows.findIndex((one) => one.name === name);
    if (board.selection.focus) return;
    if (!rows[index]?.total) board.go(rows.findIndex((one, place) => place > index && one.total), 0);
    this.page.changed();
  }

  // Images by their numbers, wherever they stand, are a label.
  sayOf(chosen, label) { return this.inTurn(async () => { const kept = await this.send(chosen, { label }); if (kept) this.page.sort(); return kept; }); }

  async send(chosen, asked, more = "") {
    const answer = await this.page.trying(() => post("correct", { ...this.page.asked(), images: chosen, ...asked }));
    if (!answer) return false;
    const row = !asked.label || this.page.answers().includes(asked.label) ? "" : ", which has no row: it is not among the labels";
    const said = corrected(asked, answer.images, chosen.length) + row;
    this.page.toast(said + more, answer.images > 0);
    return true;
  }

  undo() { return this.inTurn(() => this.takeBack()); }

  async takeBack() {
    const answer = await this.page.trying(() => post("uncorrect"));
    if (!answer) return;
    this.page.toast(answer.images ? `undone for ${images(answer.images)}` : "there is nothing to undo");
    this.page.sort();
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
