// Where tiles and rows stand: arithmetic only, so that 100,000 images cost no more than those in sight.
export const HEADER = 34;
export const GAP = 6;
export const MOST_IN_STRIP = 3000;
const MOST_TILES = 420;

// Columns of a grid, and the pixels from one tile to the next.
export const columns = (width, size) => {
  const count = Math.max(2, Math.floor((width + GAP) / (size + GAP)));
  return { count, step: (width + GAP) / count };
};

// The tiles of a grid that are in sight, with some beyond either edge: first included, last not.
export const gridRange = (top, height, width, size, total, beyond = 1.5) => {
  const { count, step } = columns(width, size);
  const first = Math.max(0, Math.floor(top / step - beyond)) * count;
  const last = Math.min(total, Math.ceil((top + height) / step + beyond) * count);
  return [Math.min(first, total), Math.min(last, first + MOST_TILES)];
};

// The tiles of a strip that are in sight.
export const stripRange = (left, width, size, total, beyond = 2) => {
  const step = size + GAP;
  return [
    Math.min(total, Math.max(0, Math.floor(left / step) - beyond)),
    Math.min(total, MOST_IN_STRIP, Math.ceil((left + width) / step) + beyond),
  ];
};

// Where each row begins: an empty one is its header only. One more than there are rows: the last is the end.
export const rowTops = (totals, size) => {
  const tops = [0];
  for (const total of totals) tops.push(tops[tops.length - 1] + HEADER + (total ? size + 16 : 4));
  return tops;
};

// The rows in sight, by halving.
export const rowRange = (tops, top, height, beyond = 120) => {
  const find = (y) => {
    let low = 0, high = tops.length - 1;
    while (low < high) { const middle = (low + high + 1) >> 1; if (tops[middle] <= y) low = middle; else high = middle - 1; }
    return low;
  };
  return [find(Math.max(0, top - beyond)), Math.min(tops.length - 1, find(top + height + beyond) + 1)];
};

// The pieces of a row that have to be asked for, of a fixed length, so that none is asked for twice.
export const CHUNK = 60;
export const chunks = (first, last) => {
  const found = [];
  for (let chunk = Math.floor(first / CHUNK); first < last && chunk * CHUNK < last; chunk += 1) found.push(chunk);
  return found;
};
