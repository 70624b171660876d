// One image on the board: a button that holds it, its number, and what was said about it.
const loadTile = (tile) => {
  if (!tile.pending) return;
  tile.image.src = tile.pending;
  tile.pending = "";
};

export const makeTile = () => {
  const element = document.createElement("button");
  element.type = "button";
  element.className = "tile";
  element.tabIndex = -1;
  const image = document.createElement("img");
  image.alt = "";
  image.decoding = "async";
  image.draggable = false;
  const caption = document.createElement("span");
  element.append(image, caption);
  const tile = { element, image, caption, id: null, pending: "", x: -1, y: -1, size: 0, parent: null, row: 0, index: 0, words: "" };
  image.addEventListener("error", () => {
    if (!image.getAttribute("src")) return;
    element.classList.add("missing");
    caption.textContent = `cannot be shown: ${tile.name ?? ""}`;
  });
  element.tile = tile;
  return tile;
};

// Fill a tile with an image (or nothing yet), and put it where it belongs. Only what differs is touched.
export const fillTile = (tile, item, words, late) => {
  const id = item ? item[0] : null;
  if (tile.id !== id) {
    tile.id = id;
    tile.element.classList.remove("missing");
    tile.image.removeAttribute("src");
    tile.name = item ? item[3] : "";
    tile.pending = item ? `/thumb/${id}?s=${item[2]}` : "";
    tile.words = null;
  }
  if (!late) loadTile(tile);
  if (tile.words !== words) {
    tile.words = words;
    if (!tile.element.classList.contains("missing")) tile.caption.textContent = words;
    tile.element.setAttribute("aria-label", item ? `${item[3]}, ${words}` : "loading");
  }
  tile.element.classList.toggle("given", item?.[5] === 1);
  tile.element.classList.toggle("refused", item?.[5] === 2);
};

export const placeTile = (tile, parent, x, y, size) => {
  if (tile.parent !== parent) { parent.append(tile.element); tile.parent = parent; }
  if (tile.size !== size) { tile.element.style.width = tile.element.style.height = `${size}px`; tile.size = size; }
  if (tile.x !== x || tile.y !== y) { tile.element.style.transform = `translate(${x}px, ${y}px)`; tile.x = x; tile.y = y; }
};

export { loadTile };
