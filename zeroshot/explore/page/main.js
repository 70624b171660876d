// The page: what is typed, shown and pressed comes together here.
import { debounce, latest, post, takeToken } from "./api.js";
import { Acting } from "./acting.js";
import { Board } from "./board.js";
import { Correcting } from "./correcting.js";
import { cosine, images, keyOf, number, percent } from "./format.js";
import { fly, positions } from "./flight.js";
import { FolderMap } from "./map.js";
import { Search, search as ask } from "./search.js";
import { Side } from "./side.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const STILL = 400; // milliseconds without a sort, after which images are seen to fly: in fast typing they would never land
const POLL = 1500, POLL_HIDDEN = 15000;

const state = { sorted: 0, start: null, described: null, found: null, grid: null, version: -1, images: -1, moved: "" };

const toast = (text, undo = false) => {
  if ($("toast").matches(":popover-open")) $("toast").hidePopover();
  $("toast").showPopover(); // above an open dialog
  $("toast").querySelector("span").textContent = text;
  $("toast").querySelector("button").hidden = !undo;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { $("toast").hidePopover(); }, undo ? 6000 : 4000);
};

// Run what may be refused; what was refused is said, and gives null. A view that is gone is made anew.
const trying = async (work, again = true) => {
  try { return await work(); } catch (error) {
    if (error.status === 410) { await sort(false); return again ? trying(work, false) : null; }
    if (error.status === 401) stop("Open the address that the terminal printed: it holds the token.");
    else if (error.status === undefined) $("status").textContent = "the server does not answer";
    else toast([error.message, error.hint].filter(Boolean).join(" – "));
    return null;
  }
};

const stop = (text) => {
  $("status").textContent = "";
  $("space").replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: text }));
  clearTimeout(poll.timer);
  poll.ended = true;
};

const answers = () => state.described?.answers ?? [];
const current = () => state.found ?? state.described;
const threshold = () => (state.found ? search.cutoff : side.threshold());

const board = new Board($("board"), $("space"), {
  windows: async (windows) => {
    const shown = await trying(() => post("rows", { view: current().view, sorting: state.described?.view, threshold: threshold(), windows, whole: false }));
    return shown?.rows ?? null;
  },
  ids: async (row, start, end) => (await trying(() => post("ids", { view: current().view, threshold: threshold(), row, start, end }), false))?.images ?? null,
  opened: () => viewer.open(),
  picked: () => correcting.show(),
  grid: (row) => openGrid(board.source.rows[row]),
  caption: (item, row) => {
    const name = answers()[item[4]] ?? "";
    if (state.found) return [cosine(item[1]), name].filter(Boolean).join(" · ");
    if (!state.described?.answers) return item[3];
    return !/^\d+$/.test(row) ? [percent(item[1]), name].filter(Boolean).join(" · ") : percent(item[1]);
  },
});

const side = new Side({ sort: () => typed(), threshold: () => moveThreshold(), pair: (first, second) => openPair(first, second) });
const search = new Search({ search: () => runSearch(), typed: () => typedSearch(), cut: () => cut(), trying });
const viewer = new Viewer({ board, trying, asked: () => ({ view: state.described.view, threshold: side.threshold() }), key: (event) => correcting.pressed(event), like: () => like(), say: (label) => correcting.say({ label }),
  keyOf: (label) => { const index = answers().indexOf(label); return index < 0 ? null : keyOf(index); } });
const correcting = new Correcting({
  board, trying, toast, answers: () => answers(), sort: () => sort(false),
  asked: () => ({ view: current().view, sorting: state.described.view }), away: () => folderMap.isOpen,
  like: () => { if (viewer.isOpen) $("viewer").close(); like(); }, changed: () => { if (viewer.isOpen) viewer.open(); },
});
const folderMap = new FolderMap({
  trying, answers: () => answers(), asked: () => ({ view: state.described.view, threshold: side.threshold() }), closed: () => $("board").focus(),
  addLabel: async (name) => { if (side.addLabel(name)) await sort(false); }, label: (chosen, name) => correcting.sayOf(chosen, name),
});
const acting = new Acting({ asked: () => ({ view: state.described.view, threshold: side.threshold() }), changed: (changes) => changed(changes) });

// Rows of what is sorted: the unknown ones first, so that they are seen to fill.
const rowsOf = (described) => {
  if (!described.answers) return [{ name: "all", title: "All images", key: "", total: described.all, share: 1, kind: "all" }];
  const most = Math.max(1, described.unknown, ...described.counts);
  const rows = described.answers.map((title, index) => ({ name: String(index), title, key: keyOf(index), total: described.counts[index], share: described.counts[index] / most, kind: "label" }));
  if (described.unknown) rows.unshift({ name: "unknown", title: "unknown", key: "", total: described.unknown, share: described.unknown / most, kind: "unknown" });
  return rows;
};

const layout = () => {
  if (state.found) return { rows: [{ name: "hits", title: "found", key: "", total: state.found.total, kind: "hits" }], single: true };
  const rows = rowsOf(state.described);
  if (!state.described.answers) return { rows, single: true };
  if (!state.grid) return { rows, single: false };
  return { rows: [{ ...(rows.find((row) => row.name === state.grid.name) ?? state.grid) }], single: true };
};

const wanted = () => {
  if (!state.described) return [["all", 0, 300], ["unknown", 0, 40], ...Array.from({ length: 8 }, (_, index) => [String(index), 0, 40])];
  const { rows, single } = layout();
  // What is typed may make the number of labels another one; rows that do not exist are left out by the server.
  const all = single ? rows : [...rows, ...Array.from({ length: 12 }, (_, index) => ({ name: String(rows.length + index) }))];
  const found = board.wanted(all, single);
  return single ? found : [["unknown", 0, found[0]?.[2] ?? 20], ...found.filter(([name]) => name !== "unknown")];
};

// Whose places the answer is to tell: an image that is selected stays so, wherever it goes.
const finding = () => ({ find: board.selection.wanted(), find_in: state.found ? "hits" : state.grid?.name ?? "" });

const show = (windows, found, moving = false) => {
  const before = moving ? positions(board) : null;
  const { rows, single } = layout();
  const counted = new Map(windows.map((window) => [window.row, window.total]));
  for (const row of rows) if (row.total === undefined) row.total = counted.get(row.name) ?? 0;
  board.show({ rows, single }, windows, found);
  if (before) fly(board, before);
  showHead(rows);
  correcting.show();
};

const showHead = (rows) => {
  const small = document.createElement("small");
  const [row] = rows;
  $("back").hidden = !(state.grid || state.found);
  $("cutoff-field").hidden = !state.found;
  $("back").textContent = state.described?.answers ? "← All labels" : "← All images";
  if (state.found) { small.textContent = ` ${images(row.total)} nearest first`; $("title").replaceChildren("Search", small); }
  else if (state.grid) { small.textContent = ` ${images(row.total)}`; $("title").replaceChildren(row.title, small); }
  else if (!state.described.answers) { small.textContent = " type labels to sort them"; $("title").replaceChildren(images(state.described.images), small); }
  else { small.textContent = ` in ${number(state.described.answers.length)} labels`; $("title").replaceChildren(images(state.described.images), small); }
};

const sort = async (moving = true) => {
  try {
    const described = await post("sort", { ...side.asked(), threshold: side.threshold(), windows: state.found ? [] : wanted(), ...finding() });
    const hadAnswers = Boolean(state.described?.answers);
    state.described = described;
    state.version = described.version;
    state.images = described.images;
    side.show(described);
    if (state.grid && /^\d+$/.test(state.grid.name) && !(described.answers ?? [])[Number(state.grid.name)]) state.grid = null;
    if (state.grid && !described.answers) state.grid = null;
    if (state.found) await runSearch();
    else show(described.rows, described.found, moving && hadAnswers && performance.now() - state.sorted > STILL);
    state.sorted = performance.now();
    folderMap.refresh();
    viewer.refresh();
    document.dispatchEvent(new CustomEvent("sorted", { detail: described.images }));
  } catch (error) {
    if (error.status === 400) side.showProblem(error);
    else await trying(() => { throw error; });
  }
};
const sortNow = latest(sort);
const resort = () => sortNow(false);
const typed = () => sortNow(true); // at once: while an answer is on its way, only the newest key press waits

const moveThreshold = latest(async () => {
  side.draw();
  if (!state.described?.answers) return;
  const described = await trying(() => post("rows", { view: state.described.view, threshold: side.threshold(), windows: state.found ? [] : wanted(), ...finding() }));
  if (!described) return;
  state.described = { ...state.described, ...described };
  side.show(state.described);
  if (!state.found) show(described.rows, described.found);
  folderMap.refresh();
});

const runSearch = latest(async () => {
  if (!search.active) { endSearch(); return; }
  const found = await trying(() => ask({ ...search.asked(), sorting: state.described?.view, threshold: -1, windows: [["hits", 0, 240]], ...finding(), find_in: "hits" }));
  if (!found) return;
  const fresh = !state.found;
  folderMap.close();
  state.found = { ...found, total: found.images };
  search.showScores(found.scores);
  if (fresh) { board.selection.clear(); $("board").scrollTop = 0; }
  if (search.cutoff > Number($("cutoff").min)) cut();
  else show(found.rows, found.found);
});
const typedSearch = debounce(() => runSearch(), 120);

const cut = latest(async () => {
  if (!state.found) return;
  const shown = await trying(() => post("rows", { view: state.found.view, sorting: state.described?.view, threshold: search.cutoff, windows: board.wanted([{ name: "hits" }], true), whole: false, ...finding() }));
  if (!shown || !state.found) return;
  state.found.total = shown.rows[0].total;
  show(shown.rows, shown.found);
});

const endSearch = () => {
  search.clear();
  if (!state.found) return;
  state.found = null;
  board.selection.clear();
  $("board").scrollTop = 0;
  resort();
};

const openGrid = (row) => {
  if (!row) return;
  folderMap.close();
  state.scroll = $("board").scrollTop;
  state.grid = { name: row.name, title: row.title, key: row.key, kind: row.kind };
  board.selection.clear();
  $("board").scrollTop = 0;
  resort();
};
const openPair = (first, second) => {
  const names = state.described.answers;
  openGrid({ name: `pair-${first}-${second}`, title: `${names[first]} or ${names[second]}, closest first`, key: "", kind: "pair" });
};
const closeGrid = () => {
  state.grid = null;
  board.selection.clear();
  show([]);
  $("board").scrollTop = state.scroll ?? 0;
  resort();
};

const like = () => {
  const item = board.focused;
  if (item) search.like(item);
};

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input:not([type=range]):not([type=radio]), textarea, select");
  if (event.key === "Escape") {
    if (event.target.id === "query" || state.found) { endSearch(); $("board").focus(); }
    else if (typing) { event.target.blur(); $("board").focus(); }
    else if (folderMap.isOpen) folderMap.escape();
    else if (state.grid) closeGrid();
    else board.release();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const ours = {
    l: () => $("labels").focus(), "/": () => $("query").focus(), "?": () => $("keys").showModal(),
    g: () => (state.grid ? closeGrid() : board.selection.focus && openGrid(board.source.rows[board.selection.focus.row])),
    v: () => (folderMap.isOpen ? folderMap.close() : folderMap.open()), "[": () => side.nudge(-0.02), "]": () => side.nudge(0.02),
  }[event.key];
  const onBoard = !event.target.closest("button, summary, a, [type=range], [type=radio]") || event.target.closest("#board");
  if (ours) ours();
  else if (folderMap.isOpen) return;
  else if (onBoard && event.key.startsWith("Arrow")) board.step(event.key, event.shiftKey);
  else if (onBoard && event.key === "Enter" && board.selection.focus) viewer.open();
  else if (onBoard && event.key === " " && board.selection.focus) viewer.open();
  else if (!correcting.pressed(event)) return;
  event.preventDefault();
});

$("back").addEventListener("click", () => (state.found ? endSearch() : closeGrid()));
$("size").addEventListener("input", () => board.resize(Number($("size").value)));
$("toast").querySelector("button").addEventListener("click", () => correcting.undo());
$("open-map").addEventListener("click", () => (folderMap.isOpen ? folderMap.close() : folderMap.open()));
$("open-keys").addEventListener("click", () => $("keys").showModal());
$("keys").addEventListener("click", (event) => { if (event.target === $("keys") || "close" in event.target.dataset) $("keys").close(); });
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("board").focus(); board.step("ArrowRight", false); });

const changed = (changes) => {
  const { progress, version, there, job } = changes;
  const failed = progress.failed ? `, ${number(progress.failed)} cannot be read` : "";
  const working = !progress.finished;
  $("status").classList.toggle("working", working);
  $("status").textContent = there ? `${working ? `${number(progress.encoded)} of ${number(progress.found)} encoded` : images(progress.encoded)}${failed}` : "the folder is gone; what was encoded stays";
  $("status").title = progress.note;
  acting.showJob(job);
  const moved = job && !job.running ? `${job.journal}${job.kind}` : "";
  if (version !== state.version || progress.encoded !== state.images || moved !== state.moved) { state.moved = moved; resort(); }
};

const poll = async () => {
  clearTimeout(poll.timer);
  const changes = await trying(() => post("changes"));
  if (changes) changed(changes);
  if (!poll.ended) poll.timer = setTimeout(poll, document.hidden ? POLL_HIDDEN : acting.job?.running ? 400 : POLL);
};
document.addEventListener("visibilitychange", () => { if (!document.hidden && !poll.ended) poll(); });

const begin = async () => {
  if (!takeToken()) { stop("Open the address that the terminal printed: it holds the token."); return; }
  state.start = await trying(() => post("start"));
  if (!state.start) return;
  const { folder, model, corrections, into } = state.start;
  const name = folder.split(/[\\/]/).filter((part) => part && !/^\.+$/.test(part)).pop() ?? folder;
  $("folder").textContent = name;
  $("folder").title = `${folder}, model ${model}`;
  document.title = `${name} – zeroshot explore`;
  $("kept").textContent = `Corrections are kept in ${corrections}, which zeroshot eval --targets reads.`;
  $("into").value = into;
  side.begin(state.start);
  if (innerWidth < 600) { $("size").value = 96; board.size = 96; }
  if (innerWidth > 1900) { $("size").value = 152; board.size = 152; }
  await sort(false);
  poll();
};
begin();
