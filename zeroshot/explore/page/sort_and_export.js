// Exports, and sorting into folders: the plan first, then the sort, then its undo.
import { post, postForBlob } from "./api.js";
import { images, number } from "./format.js";

const $ = (id) => document.getElementById(id);

const save = (blob, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

export class Acting {
  constructor(page) {
    this.page = page; // { asked(), changed(changes), renew(), doubt(), waiting() }
    this.dialog = $("acting");
    this.plan = null;
    this.job = null;
    this.seen = false;
    $("open-acting").addEventListener("click", () => this.open());
    $("sorting").addEventListener("submit", (event) => { event.preventDefault(); this.showPlan(); });
    $("sorting").addEventListener("input", () => this.forget()); // a plan is that of the form
    $("carry-out").addEventListener("click", () => this.run("carry-out", { plan: this.plan }));
    $("undo-sort").addEventListener("click", () => this.run("undo", {}));
    this.dialog.addEventListener("click", (event) => {
      const data = event.target.closest("button")?.dataset ?? {};
      if (event.target === this.dialog || "close" in data) this.dialog.close();
      else if (data.export) this.export(data.export);
      else if ("copy" in data) this.copy();
    });
  }

  // What lies in an archive or a store can be placed in one way only.
  only(placement) {
    for (const input of placement ? this.dialog.querySelectorAll("[name=placement]") : []) {
      input.checked = input.value === placement;
      input.disabled = !input.checked;
    }
    $("placed-so").hidden = !placement;
  }

  async trying(work, again = true) {
    $("acting-problem").hidden = true;
    try { return await work(); } catch (error) {
      if (error.status === 410 && again && (await this.page.renew())) return this.trying(work, false);
      $("acting-problem").hidden = false;
      $("acting-problem").textContent = [error.message, error.hint].filter(Boolean).join(" – ");
      return null;
    }
  }

  async open() {
    this.forget();
    $("command").value = $("command-note").textContent = $("export-note").textContent = "";
    $("acting-note").textContent = this.page.doubt();
    this.dialog.showModal();
    const answer = await this.trying(() => post("command", this.page.asked()));
    if (!answer) return;
    $("command").value = answer.command;
    $("command-note").textContent = answer.needs_file ? "labels.yaml is the file that “Labels as YAML” saves." : "";
  }

  forget() {
    this.plan = null;
    this.form = {};
    $("plan").hidden = true;
    $("acting-problem").hidden = true;
  }

  async export(what) {
    if (what === "labels") {
      const answer = await this.trying(() => post("labels", this.page.asked()));
      if (answer) save(new Blob([answer.yaml], { type: "application/yaml" }), "labels.yaml");
    } else {
      const blob = await this.trying(() => postForBlob("records", this.page.asked()));
      if (blob) save(blob, "records.jsonl");
      const waiting = this.page.waiting();
      if (blob && waiting) $("export-note").textContent = `${images(waiting)} not encoded yet: not among the records.`;
    }
  }

  async copy() {
    $("command").select();
    try { await navigator.clipboard.writeText($("command").value); $("command-note").textContent = "copied"; } catch { $("command-note").textContent = "press Ctrl-C to copy it"; }
  }

  async showPlan() {
    const placement = new FormData($("sorting")).get("placement");
    this.forget();
    const form = this.form;
    const plan = await this.trying(() => post("plan", { ...this.page.asked(), into: $("into").value, placement }));
    if (!plan || form !== this.form) return;
    this.plan = plan.plan;
    $("plan").hidden = false;
    $("carry-out").disabled = plan.steps === 0;
    $("plan-summary").textContent = `Nothing is changed yet. This would ${plan.placement} ${images(plan.steps)} into ${plan.into}` + (plan.stays ? `; ${number(plan.stays)} stay where they are` : "") + ".";
    const left = [...plan.reasons, ["already in that folder", plan.inside], ["not encoded yet, and left out", plan.waiting]].filter(([, count]) => count);
    $("plan-left").replaceChildren(...left.map(([why, count]) => Object.assign(document.createElement("li"), { textContent: `${number(count)}: ${why}` })));
    $("plan-folders").replaceChildren(...plan.folders.map(([name, count]) => Object.assign(document.createElement("li"), { textContent: `${name}: ${number(count)}` })));
    const more = plan.steps - plan.lines.length;
    $("plan-lines").textContent = [...plan.lines, ...(more > 0 ? [`... and ${number(more)} more`] : []), ...plan.staying].join("\n");
  }

  async run(name, asked) {
    const changes = await this.trying(() => post(name, asked));
    if (!changes) return;
    this.forget();
    this.page.changed(changes);
    $("job-text").focus(); // the button that was pressed is gone
  }

  // What the server says about the sort or undo in work, or the last one.
  showJob(job) {
    this.job = job;
    $("job").hidden = !job;
    if (!job) return;
    const verb = job.kind === "sort" ? ["sorting", "sorted"] : ["taking back", "taken back"];
    $("job-text").textContent = job.running
      ? `${verb[0]}: ${number(job.done)} of ${number(job.total)}`
      : `${number(job.done)} of ${images(job.total)} ${verb[1]}` + (job.n_failed ? `, ${number(job.n_failed)} not` : "") + (job.error ? `. ${job.error} – ${job.hint}` : "") + (job.journal ? `. The journal is ${job.journal}` : "");
    $("job-bar").hidden = !job.running;
    $("job-bar").max = job.total || 1;
    $("job-bar").value = job.done + job.n_failed;
    $("job-failed").hidden = !job.failed.length;
    $("job-failed").textContent = job.failed.join("\n");
    $("undo-sort").disabled = job.running || !job.undoable;
  }
}
