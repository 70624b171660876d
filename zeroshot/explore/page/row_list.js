// Which rows the page shows, and what stands above them.
import { images, keyOf, number } from "./format.js";

// Rows of what is sorted: the unknown ones first, so that they are seen to fill.
const rowsOf = (described) => {
  if (!described.answers) return [{ name: "all", title: "All images", key: "", total: described.all, share: 1, kind: "all" }];
  const most = Math.max(1, described.unknown, ...described.counts);
  const rows = described.answers.map((title, index) => ({ name: String(index), title, key: keyOf(index), total: described.counts[index], share: described.counts[index] / most, kind: "label" }));
  if (described.unknown) rows.unshift({ name: "unknown", title: "unknown", key: "", total: described.unknown, share: described.unknown / most, kind: "unknown" });
  return rows;
};

export const layout = ({ found, grid, described }) => {
  if (found) return { rows: [{ name: "hits", title: "found", key: "", total: found.total, kind: "hits" }], single: true };
  const rows = rowsOf(described);
  if (!described.answers) return { rows, single: true };
  if (!grid) return { rows, single: false };
  return { rows: [{ ...(rows.find((row) => row.name === grid.name) ?? grid) }], single: true };
};

export const heading = ({ found, grid, described, shown }, onMap) => {
  if (onMap) return { title: "Map", note: `of ${images(described.images)}` };
  if (found) return { title: "Search", note: found.problem || `${images(found.total)} nearest first` };
  if (grid) return { title: grid.title, note: images(shown ?? 0) };
  return { title: images(described.images), note: described.answers ? `in ${number(described.answers.length)} labels` : "type labels to sort them" };
};

// The row that is shown alone is that of its labels, wherever they stand in the list now; null where they are gone.
export const rowNow = (grid, answers) => {
  if (!answers) return null;
  const places = (grid.of ?? []).map((name) => answers.indexOf(name));
  if (places.includes(-1)) return null;
  return !grid.of ? grid : { ...grid, name: grid.kind === "pair" ? `pair-${places.join("-")}` : String(places[0]), key: grid.key && keyOf(places[0]) };
};
