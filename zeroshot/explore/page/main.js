// The page: what is typed, shown and pressed comes together here.
import { debounce, latest, post, takeToken } from "./api.js";
import { Acting } from "./sort_and_export.js";
import { Board } from "./board.js";
import { Correcting } from "./correcting.js";
import { cosine, keyOf, percent } from "./format.js";
import { heading, layout, rowNow } from "./row_list.js";
import { fly, positions } from "./move_animation.js";
import { listenForKeys } from "./keyboard.js";
import { FolderMap } from "./map.js";
import { Search } from "./search.js";
import { Side } from "./label_panel.js";
import { Status } from "./status.js";
import { toast } from "./toast.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const STILL = 400; // milliseconds without a sort, after which images are seen to fly: in fast typing they would never land
const POLL = 1500, POLL_HIDDEN = 15000, PATIENCE = 20000;
const RESTARTED = "zeroshot-restarted";

const state = { sorted: 0, start: null, described: null, found: null, grid: null, version: -1, images: -1, moved: "", turn: 0, answered: 0 };

// Run what may be refused; what was refused is said, and gives null. A view that is gone is made anew, and the work repeated.
const trying = async (work, again = true) => {
  try { return await work(); } catch (error) {
    if (error.status === 410 && again && (await trying(renew, false))) return trying(work, false);
    if (error.status === 401) stop("Open the address that the terminal printed: it holds the token.");
    else if (error.status === undefined) status.set({ silent: true });
    else if (error.status !== 410) toast([error.message, error.hint].filter(Boolean).join(" – "));
    return null;
  }
};

const renew = async () => {
  if (!isSame(await post("changes"))) return false;
  await sort(false);
  return true;
};

// Numbers of images are those of one run of the server: after another start they would stand for other images.
const isSame = ({ run }) => {
  if (run === state.start.run) return true;
  sessionStorage.setItem(RESTARTED, "yes");
  location.reload();
  return false;
};

const stop = (text) => {
  status.set({ line: "", silent: false, stale: false });
  $("space").replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: text }));
  clearTimeout(poll.timer);
  poll.ended = true;
};

const answers = () => state.described?.answers ?? [];
const current = () => state.found ?? state.described;
const threshold = () => (state.found ? search.least : side.threshold());

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
const status = new Status((work) => trying(work));
const search = new Search({ search: () => searchAnew(), typed: () => typedSearch(), cut: () => cut(), trying, toast, most: () => state.start.most_drop });
const viewer = new Viewer({ board, trying, asked: () => ({ view: state.described.view, threshold: side.threshold() }), key: (event) => correcting.pressed(event), like: () => like(), say: (label) => correcting.say({ label }),
  keyOf: (label) => { const index = answers().indexOf(label); return index < 0 ? null : keyOf(index); } });
const correcting = new Correcting({
  board, toast, answers: () => answers(), sort: () => resort(), sortNow: () => sort(false),
  trying: async (work) => { const answer = await trying(work); if (!answer && status.silent) toast("The server does not answer: nothing was kept"); return answer; },
  asked: () => ({ view: current().view, sorting: state.described.view }), away: () => folderMap.isOpen,
  like: () => { if (viewer.isOpen) $("viewer").close(); like(); }, changed: () => { if (viewer.isOpen) viewer.open(); },
});
const folderMap = new FolderMap({
  trying, answers: () => answers(), asked: () => ({ view: state.described.view, threshold: side.threshold() }),
  addLabel: (name, says) => side.addLabel(name, says, () => sort(false)), label: (chosen, name) => correcting.sayOf(chosen, name),
  open: (image) => { board.selection.only(image); viewer.open(); }, toggled: () => { if (state.described) { board.selection.clear(); showHead(); correcting.show(); } },
});
const acting = new Acting({
  asked: () => ({ view: state.described.view, threshold: side.threshold() }), changed: (changes) => changed(changes), renew, waiting: () => status.waiting,
  doubt: () => (side.problem ? "What is typed cannot be used; this is of the labels before it." : status.stale ? "The images are not sorted yet by what is typed." : ""),
});

const wanted = () => {
  if (!state.described) return [["all", 0, 300], ["unknown", 0, 40], ...Array.from({ length: 8 }, (_, index) => [String(index), 0, 40])];
  const { rows, single } = layout(state);
  // What is typed may make the number of labels another one; rows that do not exist are left out by the server.
  const all = single ? rows : [...rows, ...Array.from({ length: 12 }, (_, index) => ({ name: String(rows.length + index) }))];
  const found = board.wanted(all, single);
  return single ? found : [["unknown", 0, found[0]?.[2] ?? 20], ...found.filter(([name]) => name !== "unknown")];
};

// Whose places the answer is to tell: an image that is selected stays so, wherever it goes.
const finding = () => ({ find: board.selection.wanted(), find_in: state.found ? "hits" : state.grid?.name ?? "" });

const show = (windows, asked, found, moving = false) => {
  const before = moving ? positions(board) : null;
  const { rows, single } = layout(state);
  const counted = new Map(windows.map((window) => [window.row, window.total]));
  for (const row of rows) if (row.total === undefined) row.total = counted.get(row.name) ?? 0;
  state.shown = rows[0]?.total;
  board.show({ rows, single }, windows, new Map(asked.map((id, at) => [id, found[at]])));
  if (board.selection.wanted().some((id) => id >= 0 && !asked.includes(id))) resort(); // selected meanwhile: where is it?
  if (before) fly(board, before);
  showHead();
  correcting.show();
};

const showHead = () => {
  const { title, note } = heading(state, folderMap.isOpen);
  $("back").hidden = folderMap.isOpen || !(state.grid || state.found);
  $("cutoff-field").hidden = folderMap.isOpen || !state.found;
  $("back").textContent = state.described?.answers ? "← All labels" : "← All images";
  $("title").replaceChildren(title, Object.assign(document.createElement("small"), { textContent: ` ${note}` }));
};

// Sort by what is typed; whether it was done.
const sort = async (moving = true) => {
  side.remember();
  const turn = (state.turn += 1), asked = side.asking(), least = side.threshold(), places = finding();
  try {
    const described = await status.during(() => post("sort", { ...asked, threshold: least, windows: state.found ? [] : wanted(), ...places }));
    if (!isSame(described)) return false;
    status.set({ stale: false });
    if (turn < state.answered) return true; // a newer one was answered before
    state.answered = turn;
    const hadAnswers = Boolean(state.described?.answers), grid = state.grid && rowNow(state.grid, described.answers);
    const other = state.grid?.name !== grid?.name;
    state.described = described;
    state.version = described.version;
    state.images = described.images;
    state.grid = grid;
    side.used(asked);
    side.show(described);
    if (other) return await sort(false); // what was asked for is another row now
    if (state.found) await runSearch();
    else show(described.rows, places.find, described.found, moving && hadAnswers && performance.now() - state.sorted > STILL);
    state.sorted = performance.now();
    folderMap.refresh();
    viewer.refresh();
    if (least !== side.threshold()) moveThreshold();
    document.dispatchEvent(new CustomEvent("sorted", { detail: described.images }));
    return true;
  } catch (error) {
    status.set({ stale: error.status !== 400 });
    if (error.status === 400) { if (side.refused(asked, error)) await sort(false); } // by what was usable before
    else await trying(() => { throw error; }, false);
    return false;
  }
};
const sortNow = latest(sort);
const resort = () => sortNow(false);
const typed = () => sortNow(true); // at once: while an answer is on its way, only the newest key press waits

const moveThreshold = latest(async () => {
  side.remember();
  side.draw();
  if (!state.described?.answers) return;
  const places = finding(); let view;
  const described = await trying(() => post("rows", { view: view = state.described.view, threshold: side.threshold(), windows: state.found ? [] : wanted(), ...places }));
  if (!described) return;
  if (view !== state.described.view) { moveThreshold(); return; } // it was sorted anew meanwhile
  state.described = { ...state.described, ...described };
  side.show(state.described);
  if (!state.found) show(described.rows, places.find, described.found);
  folderMap.refresh();
});

const runSearch = latest(async () => {
  if (!search.active) { endSearch(); return; }
  const places = finding();
  const found = await trying(() => search.find({ sorting: state.described?.view, threshold: -1, windows: [["hits", 0, 240]], ...places, find_in: "hits" }));
  if (!found || !search.active) return; // it was ended meanwhile
  if (!state.found) { board.selection.clear(); $("board").scrollTop = 0; }
  state.found = { ...found, total: found.images };
  search.showScores(found.scores);
  if (search.cutoff !== null && !found.problem) cut();
  else show(found.rows, places.find, found.found);
});
const searchAnew = () => { if (search.active) folderMap.close(); runSearch(); };
const typedSearch = debounce(searchAnew, 120);

const cut = latest(async () => {
  if (!state.found || state.found.problem) return;
  const places = finding(); let found;
  const shown = await trying(() => post("rows", { view: (found = state.found)?.view, sorting: state.described?.view, threshold: search.least, windows: board.wanted([{ name: "hits" }], true), whole: false, ...places }));
  if (!shown || !state.found) return;
  if (state.found !== found) { cut(); return; }
  found.total = shown.rows[0].total;
  show(shown.rows, places.find, shown.found);
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
  state.grid = { name: row.name, title: row.title, key: row.key, kind: row.kind, of: row.of ?? (row.kind === "label" ? [row.title] : null) };
  board.selection.clear();
  $("board").scrollTop = 0;
  resort();
};
const openPair = (first, second) => {
  const names = state.described.answers;
  openGrid({ name: `pair-${first}-${second}`, title: `${names[first]} or ${names[second]}, closest first`, key: "", kind: "pair", of: [names[first], names[second]] });
};
const closeGrid = () => {
  state.grid = null;
  board.selection.clear();
  show([], [], []);
  $("board").scrollTop = state.scroll ?? 0;
  resort();
};

const like = async () => {
  const id = board.selection.focus?.id ?? null; // an image that no row shows is asked for
  const item = id === null ? null : board.focused ?? (await trying(() => post("thumbs", { images: [id] })))?.items[0];
  if (item) search.like(item);
};

listenForKeys({
  board, correcting, folderMap, viewer,
  escape: (event, typing) => {
    if (event.target.id === "query" || (state.found && !typing)) { endSearch(); $("board").focus(); }
    else if (typing) { event.target.blur(); $("board").focus(); }
    else if (folderMap.isOpen) folderMap.escape();
    else if (state.grid) closeGrid();
    else board.release();
  },
  grid: () => (state.grid ? closeGrid() : board.selection.focus && openGrid(board.source.rows[board.selection.focus.row])),
  nudge: (by) => side.nudge(by),
});

$("back").addEventListener("click", () => (state.found ? endSearch() : closeGrid()));
$("size").addEventListener("input", () => board.resize(Number($("size").value)));
$("toast").querySelector("button").addEventListener("click", () => correcting.undo());
$("open-map").addEventListener("click", () => (folderMap.isOpen ? folderMap.close() : folderMap.open()));
$("open-keys").addEventListener("click", () => $("keys").showModal());
$("keys").addEventListener("click", (event) => { if (event.target === $("keys") || "close" in event.target.dataset) $("keys").close(); });
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("board").focus(); board.step("ArrowRight", false); });

const changed = (changes) => {
  if (!isSame(changes)) return;
  const { progress, version, job } = changes;
  status.progress(changes);
  acting.showJob(job);
  const moved = job && !job.running ? `${job.journal}${job.kind}` : "";
  const is = version !== state.version || progress.encoded !== state.images || moved !== state.moved;
  state.moved = moved;
  if (is || status.stale) resort(); // a sort that failed is repeated as soon as the server answers
};

const poll = async () => {
  clearTimeout(poll.timer);
  const changes = await trying(() => post("changes", {}, AbortSignal.timeout(PATIENCE)));
  if (changes) changed(changes);
  if (!poll.ended) poll.timer = setTimeout(poll, document.hidden ? POLL_HIDDEN : acting.job?.running ? 400 : POLL);
};
document.addEventListener("visibilitychange", () => { if (!document.hidden && !poll.ended) poll(); });

const begin = async () => {
  if (!takeToken()) { stop("Open the address that the terminal printed: it holds the token."); return; }
  state.start = await trying(() => post("start"));
  if (!state.start) return;
  const { folder, name, model, corrections, into, copied } = state.start;
  $("folder").textContent = name;
  $("folder").title = `${folder}, model ${model}`;
  document.title = `${name} – zeroshot explore`;
  $("kept").textContent = `Corrections are kept in ${corrections}, which zeroshot eval --targets reads.`;
  $("into").value = into;
  acting.only(copied ? "copy" : "");
  side.begin(state.start);
  if (innerWidth < 600) { $("size").value = 96; board.size = 96; }
  if (innerWidth > 1900) { $("size").value = 152; board.size = 152; }
  if (sessionStorage.getItem(RESTARTED)) toast("The server was started anew, and the page with it; what was pressed last may not be kept");
  sessionStorage.removeItem(RESTARTED);
  await sort(false);
  poll();
};
begin();
