// The line beside the folder's name: how far encoding is, what is waited for, and what does not answer.
import { post } from "./api.js";
import { images, number } from "./format.js";

const $ = (id) => document.getElementById(id);
const SOON = 300; // milliseconds, after which a sort is said to take its time

export class Status {
  constructor(trying) {
    this.line = "";
    this.encoding = this.silent = this.stale = this.busy = false;
    $("open-failed").addEventListener("click", async () => {
      const answer = await trying(() => post("failures"));
      if (!answer) return;
      const more = answer.total - answer.failures.length;
      const lines = [...answer.failures.map(([path, error]) => `${path}: ${error}`), ...(more > 0 ? [`and ${number(more)} more`] : [])];
      $("failed-list").replaceChildren(...lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
      $("failed").showModal();
    });
    $("open-note").addEventListener("click", () => $("noted").showModal());
    for (const dialog of [$("failed"), $("noted")]) dialog.addEventListener("click", (event) => { if (event.target === dialog || "close" in event.target.dataset) dialog.close(); });
  }

  set(changes) { Object.assign(this, changes); this.show(); }

  progress({ progress, there }) {
    const { encoded, found, failed, finished, note } = progress;
    this.encoding = !finished;
    this.waiting = Math.max(0, found - failed - encoded);
    this.line = !there ? "no longer there; what was encoded stays" : finished ? images(encoded) : `${number(encoded)} of ${number(found)} encoded`;
    this.silent = false;
    if ($("noted-text").textContent !== note) {
      $("noted-text").textContent = note;
      $("open-note").textContent = note.split(": ")[0]; // "3 files were passed over", "encoding has stopped": the rest is in the dialog
      $("open-note").hidden = !note;
    }
    $("open-failed").hidden = !failed;
    $("open-failed").textContent = `${number(failed)} cannot be read`;
    this.show();
  }

  // Until some work is done, and only where that takes long, say so.
  async during(work) {
    const timer = setTimeout(() => this.set({ busy: true }), SOON);
    try { return await work(); } finally { clearTimeout(timer); if (this.busy) this.set({ busy: false }); }
  }

  show() {
    const old = "the images are not sorted yet by what is typed";
    const text = this.silent ? `the server does not answer${this.stale ? `; ${old}` : ""}` : this.busy ? "working out the labels …" : this.stale ? old : this.line;
    if ($("status").textContent !== text) $("status").textContent = text;
    $("status").classList.toggle("working", !this.silent && (this.busy || this.encoding));
  }
}
