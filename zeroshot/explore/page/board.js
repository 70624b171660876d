// The images in rows, or one row as a grid. Only what is in sight is in the page.
import { CHUNK, GAP, HEADER, MOST_IN_STRIP, chunks, columns, gridRange, rowRange, rowTops, stripRange } from "./board_geometry.js";
import { neighbour, reveal, showWhole } from "./navigation.js";
import { fillRow, makeRow } from "./rows.js";
import { Selection } from "./selection.js";
import { fillTile, makeTile, placeTile } from "./tiles.js";

const FAST = 2.5; // pixels a millisecond, above which images are not asked for until the scrolling slows down
const SETTLED = 110; // milliseconds
const MOST_KEPT = 30000;
const POOL = 160;
const PATIENCE = 3000; // milliseconds, for the sort that tells where an image stands

export class Board {
  constructor(root, space, ask) {
    this.root = root;
    this.space = space;
    this.ask = ask; // { windows(list), ids(row, from, to), opened(), picked(), grid(row), caption(item, row) }
    this.selection = new Selection(ask.ids, () => { this.mark(); ask.picked(); });
    this.source = { rows: [], single: false };
    this.size = 120;
    this.items = new Map();
    this.tiles = new Map();
    this.pool = [];
    this.rows = new Map();
    this.asked = new Set();
    this.tops = [0];
    this.generation = 0;
    this.frame = 0;
    this.last = { time: 0, top: 0 };
    this.late = false;
    this.sought = null; // what was selected where its place was not known, until a sort tells that
    this.finders = [];
    root.addEventListener("scroll", () => this.scrolled(root.scrollTop), { passive: true });
    new ResizeObserver(() => this.resized()).observe(root);
    root.addEventListener("click", (event) => this.clicked(event));
    root.addEventListener("dblclick", (event) => { if (event.target.closest(".tile")) this.ask.opened(); });
  }

  // Show rows: [{ name, title, key, total, kind }]; `single` shows the first one as a grid. `windows` are parts of them,
  // `found` where the images stand that the server was asked for, by their numbers.
  show(source, windows, found = new Map()) {
    this.generation += 1;
    this.source = source;
    this.items = new Map(source.rows.map((row) => [row.name, new Map()]));
    this.asked.clear();
    for (const window of windows) this.keep(window);
    this.layRows();
    this.selection.move((id) => this.place(id, windows, found.get(id)));
    if (this.sought?.row >= 0) { this.sought = null; this.finders.splice(0).forEach((done) => done()); }
    this.render();
  }

  // Where an image stands: among the images that are known, else where the server found it.
  place(id, windows, found) {
    const at = (name, index) => ({ row: this.source.rows.findIndex((row) => row.name === name), index });
    for (const window of windows) {
      const offset = window.items.findIndex((item) => item[0] === id);
      if (offset >= 0 && this.items.has(window.row)) return at(window.row, window.start + offset);
    }
    return found && this.items.has(found[0]) ? at(...found) : null;
  }

  keep(window) {
    const kept = this.items.get(window.row);
    if (!kept) return;
    window.items.forEach((item, offset) => kept.set(window.start + offset, item));
  }

  layRows() {
    const { rows, single } = this.source;
    if (single) {
      const { count, step } = columns(this.width(), this.size);
      this.space.style.height = `${Math.ceil((rows[0]?.total ?? 0) / count) * step + GAP}px`;
    } else {
      this.tops = rowTops(rows.map((row) => row.total), this.size);
      this.space.style.height = `${this.tops[this.tops.length - 1] + 8}px`;
    }
  }

  width() { return Math.max(120, (this.innerWidth ??= this.root.clientWidth) - this.padding() * 2); }
  padding() { return (this.innerWidth ?? 1000) < 600 ? 12 : 16; }
  resized() { this.innerWidth = this.root.clientWidth; this.innerHeight = this.root.clientHeight; this.layRows(); this.render(); }
  resize(size) { this.size = size; this.layRows(); this.render(); }

  scrolled(position) {
    const now = performance.now();
    const speed = Math.abs(position - this.last.top) / Math.max(1, now - this.last.time);
    this.last = { time: now, top: position };
    this.late = speed > FAST;
    clearTimeout(this.settle);
    this.settle = setTimeout(() => { this.late = false; this.render(); }, SETTLED);
    this.soon();
  }

  soon() { this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.render(); }); }

  // What the page should ask for together with a sort: the parts of rows that are in sight.
  wanted(rows, single) {
    const height = this.innerHeight ?? this.root.clientHeight;
    if (single) {
      const [first, last] = gridRange(this.root.scrollTop, height, this.width(), this.size, Infinity);
      return [[rows[0].name, first, last - first]];
    }
    const perRow = Math.ceil(this.width() / (this.size + GAP)) + 3;
    const most = Math.ceil(height / (this.size + HEADER)) + 3;
    const from = Math.max(0, rowRange(this.tops, this.root.scrollTop, 0, 0)[0]);
    return rows.slice(from, from + most).map((row) => {
      const strip = this.rows.get(rows.indexOf(row))?.strip;
      const first = strip ? stripRange(strip.scrollLeft, 1, this.size, Infinity)[0] : 0;
      return [row.name, first, perRow + 2];
    });
  }

  render() {
    const { rows, single } = this.source;
    const places = [], held = this.root.contains(document.activeElement);
    if (single) {
      if (rows[0]) this.placeGrid(rows[0], places);
    } else this.placeRows(places);
    this.fill(places);
    if (held && !this.root.contains(document.activeElement)) this.root.focus({ preventScroll: true }); // its image went
    this.fetchMissing(places);
  }

  placeGrid(row, places) {
    for (const [index, entry] of this.rows) { entry.element.remove(); this.rows.delete(index); }
    const width = this.width();
    const { count, step } = columns(width, this.size);
    const [first, last] = gridRange(this.root.scrollTop, this.innerHeight ?? this.root.clientHeight, width, this.size, row.total);
    for (let index = first; index < last; index += 1) {
      places.push({ row: 0, name: row.name, index, parent: this.space, x: this.padding() + (index % count) * step, y: Math.floor(index / count) * step, size: step - GAP });
    }
  }

  placeRows(places) {
    const { rows } = this.source;
    if (!rows.length) { for (const [index, entry] of this.rows) { entry.element.remove(); this.rows.delete(index); } return; }
    const [first, last] = rowRange(this.tops, this.root.scrollTop, this.innerHeight ?? this.root.clientHeight);
    for (const [index, entry] of this.rows) if (index < first || index >= last) { entry.element.remove(); this.rows.delete(index); }
    const width = this.width();
    for (let at = first; at < last; at += 1) {
      const row = rows[at], entry = this.rows.get(at) ?? this.makeRow(at);
      fillRow(entry, row, this.tops[at], this.size);
      if (!row.total) continue;
      const [from, to] = stripRange(entry.left, width, this.size, row.total);
      for (let index = from; index < to; index += 1) places.push({ row: at, name: row.name, index, parent: entry.inner, x: index * (this.size + GAP), y: 0, size: this.size });
    }
  }

  makeRow(at) {
    const entry = makeRow({ all: () => this.ask.grid(at), scrolled: (left) => this.scrolled(left) });
    this.space.append(entry.element);
    this.rows.set(at, entry);
    return entry;
  }

  fill(places) {
    const next = new Map();
    const fresh = [];
    for (const place of places) {
      const item = this.items.get(place.name)?.get(place.index) ?? null;
      const key = item ? item[0] : `${place.name}:${place.index}`;
      place.item = item;
      place.key = key;
      const tile = this.tiles.get(key);
      if (tile) { this.tiles.delete(key); next.set(key, tile); this.put(tile, place); } else fresh.push(place);
    }
    const unused = [...this.tiles.values()];
    for (const place of fresh) {
      if (next.has(place.key)) continue; // the same image twice: rows were asked for at two moments
      const tile = unused.pop() ?? this.pool.pop() ?? makeTile();
      next.set(place.key, tile);
      this.put(tile, place);
    }
    for (const tile of unused) {
      tile.element.remove();
      tile.parent = null;
      tile.image.removeAttribute("src");
      tile.id = -1;
      tile.pending = "";
      if (this.pool.length < POOL) this.pool.push(tile);
    }
    this.tiles = next;
    this.order(places);
    this.mark();
  }

  // Keep tiles in the page in the order in which they are seen; moving one that has the focus would lose it.
  order(places) {
    const held = document.activeElement?.tile;
    let before = null;
    for (const place of places) {
      const tile = this.tiles.get(place.key);
      if (tile.parent !== place.parent) continue;
      const previous = before?.parent === place.parent ? before.element : null;
      const here = previous ? previous.nextElementSibling : place.parent.querySelector(".tile");
      if (here !== tile.element) {
        place.parent.insertBefore(tile.element, here);
        if (tile === held && this.selection.focus) this.grab = true;
      }
      before = tile;
    }
  }

  put(tile, place) {
    tile.row = place.row;
    tile.index = place.index;
    fillTile(tile, place.item, place.item ? this.ask.caption(place.item, place.name) : "", this.late);
    placeTile(tile, place.parent, place.x, place.y, place.size);
  }

  // Mark what is selected, and let one tile be reached by Tab.
  mark() {
    const { selection } = this;
    let first = null, seen = false;
    for (const tile of this.tiles.values()) {
      const focused = selection.isFocus(tile);
      seen ||= focused;
      tile.element.classList.toggle("picked", focused || selection.has(tile.id));
      tile.element.tabIndex = focused ? 0 : -1;
      if (focused && this.grab) { this.grab = false; tile.element.focus({ preventScroll: true }); }
      if (!first || tile.row < first.row || (tile.row === first.row && tile.index < first.index)) first = tile;
    }
    if (!seen && first) first.element.tabIndex = 0;
  }

  async fetchMissing(places) {
    if (this.late) return;
    const missing = new Map();
    for (const place of places) {
      if (place.item) continue;
      for (const chunk of chunks(place.index, place.index + 1)) {
        const name = `${place.name}/${chunk}`;
        if (!this.asked.has(name)) { this.asked.add(name); missing.set(name, [place.name, chunk * CHUNK, CHUNK]); }
      }
    }
    if (!missing.size) return;
    const generation = this.generation;
    const windows = await this.ask.windows([...missing.values()]);
    if (generation !== this.generation) return;
    if (!windows) { for (const name of missing.keys()) this.asked.delete(name); return; }
    let kept = 0;
    for (const items of this.items.values()) kept += items.size;
    if (kept > MOST_KEPT) { for (const items of this.items.values()) items.clear(); this.asked = new Set(missing.keys()); }
    windows.forEach((window) => this.keep(window));
    this.soon();
  }

  item(row, index) { return this.items.get(this.source.rows[row]?.name)?.get(index) ?? null; }

  // The image that has the focus, where it is shown and known.
  get focused() {
    const { focus } = this.selection, item = focus && this.item(focus.row, focus.index);
    return item?.[0] === focus?.id ? item : null;
  }

  // The number of the image after those that are selected, null where none follows.
  following() {
    const { selection } = this, { focus, anchor } = selection, name = this.source.rows[focus.row]?.name;
    const index = focus.gone ? focus.index : (anchor.row === focus.row ? Math.max(focus.index, anchor.index) : focus.index) + 1;
    return this.from(name, index, (id) => selection.has(id));
  }

  // The number of the first image from a place of a row on that is not to be passed by; null where there is none.
  async from(name, index, passes = () => false) {
    const { generation } = this, row = this.source.rows.find((one) => one.name === name), items = this.items.get(name);
    while (items?.has(index) && passes(items.get(index)[0])) index += 1;
    if (!row || index >= row.total) return null;
    if (items.has(index)) return items.get(index)[0];
    const windows = await this.ask.windows([[name, index, 1]]);
    if (windows && generation === this.generation) windows.forEach((window) => this.keep(window));
    return windows?.[0]?.items[0]?.[0] ?? null;
  }

  indexOf(name, id) { return [...(this.items.get(name) ?? [])].find(([, item]) => item[0] === id)?.[0]; }

  // Select an image; where it is not at hand, the next sort finds its place.
  goTo(name, id) {
    const index = this.indexOf(name, id), row = this.source.rows.findIndex((one) => one.name === name);
    if (index < (this.source.single ? Infinity : MOST_IN_STRIP)) { this.go(row, index); return; }
    this.selection.only(id);
    this.sought = this.selection.focus;
    this.mark();
    this.ask.picked();
  }

  // Wait until the place of what is sought is known; not for ever, since a sort may fail.
  placed() { return new Promise((resolve) => { this.finders.push(resolve); setTimeout(resolve, PATIENCE); }); }

  go(row, index, extend = false) {
    const rows = this.source.rows;
    if (!rows[row]?.total) return;
    const last = Math.min(rows[row].total, this.source.single ? Infinity : MOST_IN_STRIP) - 1;
    this.selection.go({ row, index: Math.max(0, Math.min(last, index)) }, rows[row].name, this.items.get(rows[row].name), extend);
    this.grab = true;
    this.ask.picked(); // first: the bar that it shows takes room from the board
    reveal(this);
    this.render();
    showWhole(this);
  }

  // Give the focus back to the image that has it on the board.
  refocus() { if (this.selection.focus) { this.grab = true; this.mark(); } }

  release() { this.selection.clear(); this.mark(); this.ask.picked(); }

  step(key, extend) {
    const to = neighbour(this, key);
    if (to) this.go(to.row, to.index, extend && to.extends);
  }

  clicked(event) {
    const tile = event.target.closest(".tile")?.tile;
    if (tile) this.go(tile.row, tile.index, event.shiftKey);
    else if (event.target === this.root || event.target === this.space) this.release();
  }
}
