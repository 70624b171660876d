// The map's arithmetic: where dots stand in the window, which are inside an outline, and their colours.
export const NONE = 65535;
export const FULL = 65535;
const GONE = 65534, NOWHERE = -1000 * FULL;
const MOST_ZOOM = 200;

// Images that are gone keep their numbers, and stand outside of every window; `count` is that of the others.
export const setAside = (sent) => {
  const points = Int32Array.from(sent), n = points.length / 3;
  let count = n;
  for (let dot = 0; dot < n; dot += 1) if (points[2 * n + dot] === GONE) { points[dot] = NOWHERE; points[2 * n + dot] = NONE; count -= 1; }
  return { points, count };
};

// Part of the map that is in the window: its middle, from 0 to 1 on either axis, and how many times enlarged.
export const WHOLE = { x: 0.5, y: 0.5, zoom: 1 };

export const toWindow = (view, width, height, x, y) => [((x / FULL - view.x) * view.zoom + 0.5) * width, ((y / FULL - view.y) * view.zoom + 0.5) * height];

export const moved = (view, width, height, dx, dy) => kept({ ...view, x: view.x - dx / width / view.zoom, y: view.y - dy / height / view.zoom });

// Zoom by a factor; what is below a place of the window stays there.
export const zoomed = (view, width, height, factor, x = width / 2, y = height / 2) => {
  const zoom = Math.min(MOST_ZOOM, Math.max(1, view.zoom * factor));
  const [right, down] = [x / width - 0.5, y / height - 0.5];
  return kept({ zoom, x: view.x + right / view.zoom - right / zoom, y: view.y + down / view.zoom - down / zoom });
};

// No part of the window lies beyond the map.
const kept = ({ x, y, zoom }) => {
  const half = 0.5 / zoom;
  const within = (value) => Math.min(1 - half, Math.max(half, value));
  return { zoom, x: within(x), y: within(y) };
};

export const isInside = (outline, x, y) => {
  let inside = false;
  for (let at = 0, last = outline.length - 1; at < outline.length; last = at, at += 1) {
    const [ax, ay] = outline[at], [bx, by] = outline[last];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
};

// Numbers of the dots inside an outline in the window.
export const inside = (points, view, width, height, outline) => {
  const found = [], n = points.length / 3;
  const xs = outline.map(([x]) => x), ys = outline.map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  for (let dot = 0; dot < n; dot += 1) {
    const [x, y] = toWindow(view, width, height, points[dot], points[n + dot]);
    if (x >= left && x <= right && y >= top && y <= bottom && isInside(outline, x, y)) found.push(dot);
  }
  return found;
};

// The dot that is nearest to a place in the window, and not farther than `most`; -1 for none.
export const nearest = (points, view, width, height, x, y, most) => {
  let found = -1, least = most;
  for (let dot = 0, n = points.length / 3; dot < n; dot += 1) {
    const [left, top] = toWindow(view, width, height, points[dot], points[n + dot]), far = Math.hypot(left - x, top - y);
    if (far <= least) { found = dot; least = far; }
  }
  return found;
};

// Dots of which a small image is shown, around the place where they are, so that none covers another.
export const spaced = (points, view, width, height, side, most) => {
  const taken = new Map(), n = points.length / 3, found = [];
  const place = (column, row) => column + 4096 * row;
  for (let dot = 0; dot < n && found.length < most; dot += 1) {
    const [x, y] = toWindow(view, width, height, points[dot], points[n + dot]);
    if (x < 0 || y < 0 || x >= width || y >= height) continue;
    const column = Math.floor(x / side), row = Math.floor(y / side);
    let free = true;
    for (let near = 0; near < 9 && free; near += 1) {
      const other = taken.get(place(column - 1 + (near % 3), row - 1 + Math.floor(near / 3)));
      free = !other || Math.abs(other.x - x) >= side || Math.abs(other.y - y) >= side;
    }
    if (!free) continue;
    found.push({ dot, x, y });
    taken.set(place(column, row), { x, y });
  }
  return found;
};

// Colours of labels, told apart on light and on dark, as 0xAABBGGRR.
const HUES = [215, 25, 145, 330, 50, 275, 185, 0, 95, 245, 305, 70];
export const colours = (count, dark) => Array.from({ length: count }, (_, index) => {
  const lightness = (dark ? 66 : 44) + (Math.floor(index / HUES.length) % 2 ? -12 : 0);
  return hsl(HUES[index % HUES.length], 72, lightness);
});
export const hsl = (hue, saturation, lightness) => {
  const part = (at) => {
    const k = (at + hue / 30) % 12, a = (saturation * Math.min(lightness, 100 - lightness)) / 10000;
    return Math.round(255 * (lightness / 100 - a * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return ((255 << 24) | (part(4) << 16) | (part(8) << 8) | part(0)) >>> 0;
};
export const toCss = (colour) => `rgb(${colour & 255} ${(colour >> 8) & 255} ${(colour >> 16) & 255})`;
