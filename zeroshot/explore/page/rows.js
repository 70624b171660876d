// One row of the board: its key, its name and count, and the strip that holds its images.
import { GAP, MOST_IN_STRIP } from "./board_geometry.js";
import { number } from "./format.js";

export const makeRow = (does) => { // { all(), scrolled(left) }
  const element = document.createElement("section");
  element.className = "row";
  const header = document.createElement("header");
  const key = document.createElement("kbd"), title = document.createElement("b"), count = document.createElement("span");
  const share = document.createElement("span"), bar = document.createElement("i"), all = document.createElement("button");
  count.className = "count";
  share.className = "share";
  share.append(bar);
  all.type = "button";
  all.textContent = "show all";
  all.addEventListener("click", does.all);
  header.append(key, title, count, share, all);
  const strip = document.createElement("div"), inner = document.createElement("div");
  strip.className = "strip";
  strip.append(inner);
  element.append(header, strip);
  const entry = { element, key, title, count, bar, all, strip, inner, left: 0, shown: "" };
  strip.addEventListener("scroll", () => { entry.left = strip.scrollLeft; does.scrolled(entry.left); }, { passive: true });
  return entry;
};

// Only what differs from what the row shows is touched.
export const fillRow = (entry, row, top, size) => {
  const shown = [top, size, row.title, row.key, row.total, row.share, row.kind].join("\n");
  if (entry.shown === shown) return;
  entry.shown = shown;
  entry.element.style.transform = `translateY(${top}px)`;
  entry.element.classList.toggle("unknown", row.kind === "unknown");
  entry.element.setAttribute("aria-label", `${row.title}: ${row.total}`);
  entry.key.textContent = row.key;
  entry.key.hidden = !row.key;
  entry.title.textContent = entry.title.title = row.title;
  entry.count.textContent = number(row.total);
  entry.bar.style.transform = `scaleX(${row.share})`;
  entry.all.hidden = !row.total;
  entry.strip.hidden = !row.total;
  entry.strip.style.height = `${size + 10}px`;
  entry.inner.style.width = `${Math.min(row.total, MOST_IN_STRIP) * (size + GAP)}px`;
};
