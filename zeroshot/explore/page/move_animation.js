// Images that stay in sight are seen moving from where they were to where they are.
const MILLISECONDS = 320;

// Where the board's images are on the screen now, by number.
export const positions = (board) => {
  const found = new Map(), box = board.root.getBoundingClientRect();
  for (const [key, tile] of board.tiles) {
    if (typeof key !== "number" || !tile.image.complete || !tile.image.currentSrc) continue;
    const at = tile.element.getBoundingClientRect();
    if (at.bottom > box.top && at.top < box.bottom && at.right > box.left && at.left < box.right) found.set(key, at);
  }
  return found;
};

// Let copies of the images that moved fly to their new places.
export const fly = (board, before, most = 24) => {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const after = positions(board);
  let flying = 0;
  for (const [key, from] of before) {
    const to = after.get(key);
    if (!to || flying >= most || Math.hypot(to.left - from.left, to.top - from.top) < 8) continue;
    flying += 1;
    const tile = board.tiles.get(key), copy = tile.image.cloneNode();
    copy.className = "flying";
    copy.style.width = `${to.width}px`;
    copy.style.height = `${to.height}px`;
    document.body.append(copy);
    const at = (box) => `translate(${box.left}px, ${box.top}px)`;
    const ends = copy.animate([{ transform: at(from) }, { transform: at(to) }], { duration: MILLISECONDS, easing: "cubic-bezier(.2,.7,.2,1)" });
    const hidden = tile.element.animate([{ opacity: 0 }, { opacity: 0 }], { duration: MILLISECONDS });
    ends.onfinish = ends.oncancel = () => { copy.remove(); hidden.cancel(); };
  }
};
