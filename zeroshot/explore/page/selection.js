// What is selected: images by their numbers. A sort gives them other places and leaves them selected.
export class Selection {
  constructor(ids, changed) {
    this.find = ids; // gives the numbers of the images from one place of a row to another, or null
    this.changed = changed;
    this.clear();
  }

  clear() {
    this.focus = this.anchor = null; // { row, index, id, gone }; no id where the image is still on its way
    this.ids = new Set();
    this.pending = null;
  }

  get count() { return this.pending ? this.span : this.ids.size; }

  // Select the image at a place, or those from the anchor to it. `items` are the row's images that are known.
  go(place, name, items, extend) {
    this.focus = { ...place, id: items.get(place.index)?.[0] ?? null, gone: false };
    if (!extend || !this.anchor || this.anchor.gone || this.anchor.row !== place.row) this.anchor = { ...this.focus };
    const from = Math.min(this.anchor.index, place.index), to = Math.max(this.anchor.index, place.index) + 1;
    this.span = to - from;
    this.ids = new Set();
    this.pending = null;
    for (let index = from; index < to; index += 1) if (items.has(index)) this.ids.add(items.get(index)[0]);
    if (this.ids.size < this.span) this.pending = this.ask(name, from, to);
  }

  async ask(name, from, to) {
    const { focus } = this, ids = await this.find(name, from, to);
    if (focus !== this.focus) return ids ?? [];
    this.pending = null;
    if (!ids) { this.clear(); this.changed(); return []; }
    this.ids = new Set(ids);
    focus.id = ids[focus.index - from] ?? null;
    if (this.anchor.id === null) this.anchor.id = ids[this.anchor.index - from] ?? null;
    this.changed();
    return ids;
  }

  // One image, wherever it stands: the map shows it, and no row.
  only(id) {
    this.clear();
    this.focus = { row: -1, index: 0, id, gone: true };
    this.anchor = { ...this.focus };
    this.ids = new Set([id]);
  }

  // Only the image that has the focus.
  narrow() {
    if (!this.focus) return;
    this.anchor = { ...this.focus };
    if (this.focus.id !== null) { this.ids = new Set([this.focus.id]); this.pending = null; }
  }

  // The numbers of all that is selected, once they are known.
  async settled() {
    while (this.pending) await this.pending;
    return [...this.ids];
  }

  // The numbers of what is selected at this moment, whatever is selected once they are known.
  chosen() { return this.pending ?? Promise.resolve([...this.ids]); }

  // The images whose places a sort is to tell.
  wanted() { return this.focus ? [this.focus.id ?? -1, this.anchor.id ?? -1] : []; }

  // After a sort: `place(id)` gives where an image stands now, or null where it is not among what is shown.
  move(place) {
    for (const spot of [this.focus, this.anchor]) {
      if (!spot) continue;
      const found = spot.id === null ? null : place(spot.id);
      spot.gone = !found;
      if (found) Object.assign(spot, found);
    }
  }

  has(id) { return this.ids.has(id); }
  isFocus(tile) {
    if (!this.focus) return false;
    return this.focus.id === null ? tile.row === this.focus.row && tile.index === this.focus.index : tile.id === this.focus.id;
  }
}
