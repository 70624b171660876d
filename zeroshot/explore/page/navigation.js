// From image to image by arrow keys, and the image that has the focus brought into sight.
import { GAP, columns } from "./board_geometry.js";

// Where an arrow key leads: left and right along a row, up and down to the next row that holds something.
export const neighbour = (board, key) => {
  const { rows, single } = board.source, { focus } = board.selection;
  if (!focus || focus.gone) {
    const here = focus && rows[focus.row]?.total;
    return { row: here ? focus.row : rows.findIndex((row) => row.total), index: here ? focus.index : 0 };
  }
  const { row, index } = focus;
  const sideways = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (sideways) return { row, index: index + sideways, extends: true };
  const by = key === "ArrowDown" ? 1 : -1;
  if (single) {
    const { count } = columns(board.width(), board.size);
    const next = index + by * count;
    return next >= 0 && next < rows[0].total + (by > 0 ? count - 1 : 0) ? { row, index: next, extends: true } : null;
  }
  let to = row + by;
  while (rows[to] && !rows[to].total) to += by;
  if (!rows[to]) return null;
  const before = (at) => (board.rows.get(at)?.left ?? 0) / (board.size + GAP); // images to the left of what is in sight
  return { row: to, index: index - Math.floor(before(row)) + Math.ceil(before(to)) };
};

export const reveal = (board) => {
  const { row, index } = board.selection.focus, { root, size } = board, height = root.clientHeight;
  if (board.source.single) {
    const { count, step } = columns(board.width(), size);
    const y = Math.floor(index / count) * step;
    if (y < root.scrollTop) root.scrollTop = y;
    else if (y + step > root.scrollTop + height) root.scrollTop = y + step - height;
    return;
  }
  const top = board.tops[row], bottom = board.tops[row + 1];
  if (top < root.scrollTop) root.scrollTop = top;
  else if (bottom > root.scrollTop + height) root.scrollTop = bottom - height;
  board.render();
  const entry = board.rows.get(row);
  if (!entry) return;
  const x = index * (size + GAP), width = board.width();
  if (x < entry.strip.scrollLeft) entry.strip.scrollLeft = x;
  else if (x + size > entry.strip.scrollLeft + width) entry.strip.scrollLeft = x + size - width;
  entry.left = entry.strip.scrollLeft;
};

// In a low window the page scrolls too: bring the image that has the focus into it.
export const showWhole = (board) => {
  const page = document.documentElement;
  if (page.scrollHeight <= page.clientHeight) return;
  const tile = [...board.tiles.values()].find((one) => board.selection.isFocus(one));
  tile?.element.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
};
