// What the map shows, painted: dots, small images, outlines. Nothing here knows what they are for.
import { FULL, NONE, WHOLE, colours, hsl, spaced, toCss } from "./map_geometry.js";

const SIDE = 60, MOST_SMALL = 150, MOST_KEPT = 400;
const ROOM = 4; // dots for each small image that has room in the window, up to which they are shown

export class MapCanvas {
  constructor(canvas, ask) {
    this.canvas = canvas;
    this.ask = ask; // gives [number, signature, name] for each of some images
    this.points = new Uint16Array(0);
    this.palette = [];
    this.view = WHOLE;
    this.marked = new Uint8Array(0);
    this.images = new Map();
    this.outline = null;
    this.share = 0;
    this.labels = 0;
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => this.colour());
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  get size() { return [this.width ?? 1, this.height ?? 1]; }

  resize() {
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.scale = Math.min(2, devicePixelRatio || 1);
    if (!this.width || !this.height) return;
    this.canvas.width = Math.round(this.width * this.scale);
    this.canvas.height = Math.round(this.height * this.scale);
    this.soon();
  }

  show(points, answers) {
    this.points = points;
    this.labels = answers.length;
    if (this.marked.length !== points.length / 3) this.marked = new Uint8Array(points.length / 3);
    this.colour();
  }

  colour() {
    const dark = this.dark.matches;
    this.palette = colours(this.labels, dark);
    this.plain = hsl(0, 0, dark ? 58 : 55);
    this.strong = getComputedStyle(this.canvas).getPropertyValue("--accent");
    this.soon();
  }

  see(view) { this.view = view; this.soon(); }
  mark(dots) { this.marked.fill(0); for (const dot of dots) this.marked[dot] = 1; this.soon(); }
  draft(outline) { this.outline = outline; this.soon(); }
  frame(share) { this.share = share; this.soon(); }
  soon() { this.waiting ??= requestAnimationFrame(() => { this.waiting = undefined; this.paint(); }); }

  paint() {
    if (!this.width || !this.height) return;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.putImageData(this.dots(), 0, 0);
    pen.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    this.paintImages(pen);
    pen.strokeStyle = this.strong;
    pen.lineWidth = 2;
    if (this.outline?.length > 1) {
      pen.beginPath();
      this.outline.forEach(([x, y]) => pen.lineTo(x, y));
      pen.stroke();
    }
    if (this.share) {
      pen.setLineDash([8, 6]);
      pen.strokeRect((this.width * (1 - this.share)) / 2 + 1, (this.height * (1 - this.share)) / 2 + 1, this.width * this.share - 2, this.height * this.share - 2);
      pen.setLineDash([]);
    }
  }

  // All dots as pixels: 100,000 are milliseconds, where as many calls of the canvas would be a long task.
  dots() {
    const { width, height } = this.canvas, { points, palette, marked, view } = this, n = points.length / 3;
    const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    const radius = Math.max(1, Math.round(Math.min(5, 1 + Math.log2(this.view.zoom) * 0.8 + (n < 5000 ? 1 : 0)) * this.scale));
    const some = marked.includes(1);
    this.inSight = 0;
    for (let dot = 0; dot < n; dot += 1) {
      const x = Math.round(((points[dot] / FULL - view.x) * view.zoom + 0.5) * width), y = Math.round(((points[n + dot] / FULL - view.y) * view.zoom + 0.5) * height);
      if (x < -radius || y < -radius || x >= width + radius || y >= height + radius) continue;
      this.inSight += 1;
      const answer = points[2 * n + dot];
      let colour = answer === NONE ? this.plain : palette[answer] ?? this.plain;
      if (some && !marked[dot]) colour = ((colour & 0xffffff) | (70 << 24)) >>> 0;
      const left = Math.max(0, x - radius), right = Math.min(width, x + radius), bottom = Math.min(height, y + radius);
      for (let row = Math.max(0, y - radius); row < bottom; row += 1) pixels.fill(colour, row * width + left, row * width + Math.max(left, right));
    }
    return image;
  }

  paintImages(pen) {
    const places = (this.width / SIDE) * (this.height / SIDE);
    if (!this.points.length || this.inSight > places * ROOM) return;
    const shown = spaced(this.points, this.view, this.width, this.height, SIDE, MOST_SMALL), missing = [];
    for (const { dot, x, y } of shown) {
      const image = this.images.get(dot);
      if (!image) { missing.push(dot); continue; }
      this.images.delete(dot);
      this.images.set(dot, image); // used last
      if (image.complete && image.naturalWidth) this.paintImage(pen, image, dot, x - SIDE / 2 + 2, y - SIDE / 2 + 2, SIDE - 4);
    }
    while (this.images.size > MOST_KEPT) this.images.delete(this.images.keys().next().value);
    if (missing.length) this.fetch(missing);
  }

  paintImage(pen, image, dot, x, y, side) {
    const square = Math.min(image.naturalWidth, image.naturalHeight);
    pen.drawImage(image, (image.naturalWidth - square) / 2, (image.naturalHeight - square) / 2, square, square, x, y, side, side);
    const answer = this.points[(this.points.length / 3) * 2 + dot], colour = this.palette[answer] ?? this.plain;
    pen.lineWidth = this.marked[dot] ? 4 : 2;
    pen.strokeStyle = this.marked[dot] ? this.strong : toCss(colour);
    pen.strokeRect(x, y, side, side);
  }

  async fetch(dots) {
    if (this.asking) return;
    this.asking = true;
    let found = [];
    try {
      found = await this.ask(dots);
      for (const [number, signature] of found) {
        const image = new Image();
        image.decoding = "async";
        image.addEventListener("load", () => this.soon());
        image.src = `/thumb/${number}?s=${signature}`;
        this.images.set(number, image);
      }
    } finally { this.asking = false; }
    if (found.length) this.soon();
  }
}
