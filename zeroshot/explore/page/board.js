// The images in rows, or one row as a grid. Only what is in sight is in the page.
import { CHUNK, GAP, HEADER, MOST_IN_STRIP, chunks, columns, gridRange, rowRange, rowTops, stripRange } from "./geometry.js";
import { fillRow, makeRow } from "./rows.js";
import { fillTile, makeTile, placeTile } from "./tiles.js";

const FAST = 2.5; // pixels a millisecond, above which images are not asked for until the scrolling slows down
const SETTLED = 110; // milliseconds
const MOST_KEPT = 30000;
const POOL = 160;

export class Board {
  constructor(root, space, ask) {
    this.root = root;
    this.space = space;
    this.ask = ask; // { windows(list), opened(), picked(), grid(row), caption(item, row) }
    this.source = { rows: [], single: false };
    this.size = 120;
    this.items = new Map();
    this.tiles = new Map();
    this.pool = [];
    this.rows = new Map();
    this.asked = new Set();
    this.tops = [0];
    this.focus = null;
    this.anchor = null;
    this.generation = 0;
    this.frame = 0;
    this.last = { time: 0, top: 0 };
    this.late = false;
    root.addEventListener("scroll", () => this.scrolled(root.scrollTop), { passive: true });
    new ResizeObserver(() => this.resized()).observe(root);
    root.addEventListener("click", (event) => this.clicked(event));
    root.addEventListener("dblclick", (event) => { if (event.target.closest(".tile")) this.ask.opened(); });
  }

  // Show rows: [{ name, title, key, total, kind }]; `single` shows the first one as a grid. `windows` are parts of them.
  show(source, windows) {
    this.generation += 1;
    this.source = source;
    this.items = new Map(source.rows.map((row) => [row.name, new Map()]));
    this.asked.clear();
    for (const window of windows) this.keep(window);
    this.layRows();
    if (this.focus && !source.rows[this.focus.row]) this.focus = this.anchor = null;
    if (this.focus) {
      const total = source.rows[this.focus.row].total;
      this.focus.index = Math.max(0, Math.min(this.focus.index, total - 1));
      if (!total) this.focus = null;
      this.anchor = this.focus && { ...this.focus };
    }
    this.render();
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
    const places = [];
    if (single) {
      if (rows[0]) this.placeGrid(rows[0], places);
    } else this.placeRows(places);
    this.fill(places);
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
        if (tile === held && this.focus) this.grab = true;
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
    const range = this.range();
    let first = null;
    for (const tile of this.tiles.values()) {
      const picked = range !== null && tile.row === range.row && tile.index >= range.from && tile.index <= range.to;
      tile.element.classList.toggle("picked", picked);
      const focused = this.focus && tile.row === this.focus.row && tile.index === this.focus.index;
      tile.element.tabIndex = focused ? 0 : -1;
      if (focused && this.grab) { this.grab = false; tile.element.focus({ preventScroll: true }); }
      if (!first || tile.row < first.row || (tile.row === first.row && tile.index < first.index)) first = tile;
    }
    if (!this.focus && first) first.element.tabIndex = 0;
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

  // The selection: the row's name and the first and last place in it, or null.
  range() {
    if (!this.focus) return null;
    const anchor = this.anchor && this.anchor.row === this.focus.row ? this.anchor.index : this.focus.index;
    return { row: this.focus.row, from: Math.min(anchor, this.focus.index), to: Math.max(anchor, this.focus.index) };
  }

  go(row, index, extend = false) {
    const rows = this.source.rows;
    if (!rows[row]?.total) return;
    this.focus = { row, index: Math.max(0, Math.min(rows[row].total - 1, index)) };
    if (!this.source.single) this.focus.index = Math.min(this.focus.index, MOST_IN_STRIP - 1);
    if (!extend || !this.anchor || this.anchor.row !== row) this.anchor = { ...this.focus };
    this.grab = true;
    this.reveal();
    this.render();
    this.ask.picked();
  }

  // Give the focus back to the image that has it on the board.
  refocus() { if (this.focus) { this.grab = true; this.mark(); } }

  release() { this.focus = this.anchor = null; this.mark(); this.ask.picked(); }

  reveal() {
    const { row, index } = this.focus, root = this.root, height = root.clientHeight;
    if (this.source.single) {
      const { count, step } = columns(this.width(), this.size);
      const y = Math.floor(index / count) * step;
      if (y < root.scrollTop) root.scrollTop = y;
      else if (y + step > root.scrollTop + height) root.scrollTop = y + step - height;
      return;
    }
    const top = this.tops[row], bottom = this.tops[row + 1];
    if (top < root.scrollTop) root.scrollTop = top;
    else if (bottom > root.scrollTop + height) root.scrollTop = bottom - height;
    this.render();
    const entry = this.rows.get(row);
    if (!entry) return;
    const x = index * (this.size + GAP), width = this.width();
    if (x < entry.strip.scrollLeft) entry.strip.scrollLeft = x;
    else if (x + this.size > entry.strip.scrollLeft + width) entry.strip.scrollLeft = x + this.size - width;
    entry.left = entry.strip.scrollLeft;
  }

  // Arrow keys: left and right along a row, up and down to the next row that holds something.
  step(key, extend) {
    const rows = this.source.rows;
    if (!this.focus) {
      const first = rows.findIndex((row) => row.total);
      if (first >= 0) this.go(first, 0);
      return;
    }
    const { row, index } = this.focus;
    const sideways = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (sideways) return this.go(row, index + sideways, extend);
    const by = key === "ArrowDown" ? 1 : -1;
    if (this.source.single) {
      const { count } = columns(this.width(), this.size);
      const next = index + by * count;
      return next >= 0 && next < rows[0].total + (by > 0 ? count - 1 : 0) ? this.go(row, next, extend) : undefined;
    }
    let to = row + by;
    while (rows[to] && !rows[to].total) to += by;
    if (!rows[to]) return;
    const seen = index - Math.floor((this.rows.get(row)?.left ?? 0) / (this.size + GAP));
    this.go(to, seen + Math.ceil((this.rows.get(to)?.left ?? 0) / (this.size + GAP)));
  }

  clicked(event) {
    const tile = event.target.closest(".tile")?.tile;
    if (tile) this.go(tile.row, tile.index, event.shiftKey);
    else if (event.target === this.root || event.target === this.space) this.release();
  }
}
