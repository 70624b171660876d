// The live page's modules that know nothing of the page: geometry, numbers as words, keys, requests that overtake.
import assert from "node:assert/strict";
import { test } from "node:test";

const folder = new URL("../../zeroshot/explore/page/", import.meta.url);
const { chunks, columns, gridRange, rowRange, rowTops, stripRange, CHUNK, GAP, HEADER, MOST_IN_STRIP } = await import(new URL("board_geometry.js", folder));
const { KEYS, accuracy, corrected, images, keyOf, labelOf, percent, spread, typedAs } = await import(new URL("format.js", folder));
const { NONE, WHOLE, colours, inside, isInside, moved, nearest, spaced, toCss, toWindow, zoomed } = await import(new URL("map_geometry.js", folder));
const { layout, rowNow } = await import(new URL("row_list.js", folder));
const { Selection } = await import(new URL("selection.js", folder));
const { latest } = await import(new URL("api.js", folder));

test("a grid fills its width and shows only what is in sight", () => {
  const { count, step } = columns(1000, 120);
  assert.equal(count, 7);
  assert.equal(step, (1000 + GAP) / 7);
  assert.deepEqual(gridRange(0, 900, 1000, 120, 100000), [0, 56]);
  const [first, last] = gridRange(1e6, 900, 1000, 120, 100000);
  assert.equal(first % count, 0);
  assert.ok(first * step / count <= 1e6 && last * step / count >= 1e6 + 900 && last - first < 100);
});

test("a grid ends with the last image, and never holds more than some hundreds", () => {
  assert.deepEqual(gridRange(0, 900, 1000, 120, 3), [0, 3]);
  assert.deepEqual(gridRange(1e9, 900, 1000, 120, 10), [10, 10]);
  const [first, last] = gridRange(0, 5000, 5000, 72, 100000);
  assert.ok(last - first <= 420);
});

test("a strip shows what is in sight, up to its limit", () => {
  assert.deepEqual(stripRange(0, 500, 120, 1000), [0, 6]);
  const [, last] = stripRange(1e7, 500, 120, 100000);
  assert.equal(last, MOST_IN_STRIP);
});

test("empty rows are low, and the rows in sight are found", () => {
  const tops = rowTops([5, 0, 7], 100);
  assert.deepEqual(tops, [0, HEADER + 116, 2 * HEADER + 120, 3 * HEADER + 236]);
  assert.deepEqual(rowRange(tops, 0, 10, 0), [0, 1]);
  assert.deepEqual(rowRange(tops, tops[2] + 1, 10, 0), [2, 3]);
  const many = rowTops(Array(1000).fill(1), 100);
  const [first, last] = rowRange(many, many[500], 900, 120);
  assert.ok(first >= 498 && first <= 500 && last <= 509);
});

test("pieces of a row are of a fixed length", () => {
  assert.deepEqual(chunks(0, 1), [0]);
  assert.deepEqual(chunks(CHUNK - 1, CHUNK + 1), [0, 1]);
  assert.deepEqual(chunks(5, 5), []);
});

test("keys are distinct, none is taken for something else, and each leads back to its label", () => {
  assert.equal(new Set(KEYS).size, KEYS.length);
  for (const taken of "xucmlgv/?[]") assert.ok(!KEYS.includes(taken), taken);
  assert.equal(keyOf(0), "1");
  assert.equal(keyOf(1000), "");
  KEYS.forEach((key, index) => assert.equal(labelOf(key, KEYS.length), index));
  assert.equal(labelOf("3", 2), -1);
  assert.equal(labelOf("x", 50), -1);
});

test("numbers are words that do not claim too much", () => {
  assert.equal(percent(0.5), "50.0 %");
  assert.equal(percent(0.99999), "100.0 %");
  assert.equal(percent(0.0001), "<0.1 %");
  assert.equal(images(1), "1 image");
  assert.equal(images(100000), "100,000 images");
  const said = accuracy({ right: 3, of: 4, value: 0.75, low: 0.3, high: 0.95, answered: [0, 0, 0, 0, 1] });
  assert.equal(said.value, "75 %");
  assert.equal(said.whole, "3 of 4 right (30 to 95 %)");
  assert.equal(said.answered, "all of them are unknown");
});

test("of calls that come faster than they are answered, the first and the newest are made", async () => {
  const made = [];
  let release;
  const call = latest((name) => { made.push(name); return new Promise((done) => { release = done; }); });
  const first = call("a");
  call("b");
  call("c");
  assert.deepEqual(made, ["a"]);
  release();
  await first;
  assert.deepEqual(made, ["a", "c"]);
});

test("a map zooms around a place, moves, and never leaves the window empty", () => {
  assert.deepEqual(toWindow(WHOLE, 200, 100, 0, 65535), [0, 100]);
  const near = zoomed(WHOLE, 200, 100, 4, 50, 25);
  const [x, y] = toWindow(near, 200, 100, 65535 / 4, 65535 / 4);
  assert.ok(Math.abs(x - 50) < 1e-6 && Math.abs(y - 25) < 1e-6);
  assert.deepEqual(zoomed(near, 200, 100, 1e-9), WHOLE);
  assert.deepEqual(moved(WHOLE, 200, 100, 70, 70), WHOLE);
  const far = moved(near, 200, 100, -1e6, 0);
  assert.equal(far.x, 1 - 0.5 / 4);
  assert.ok(Math.abs(moved(near, 200, 100, 8, 0).x - (near.x - 8 / 200 / 4)) < 1e-12);
});

test("an outline holds what is inside it", () => {
  const corner = [[0, 0], [100, 0], [100, 100], [50, 40], [0, 100]]; // with a notch from below
  assert.ok(isInside(corner, 50, 20));
  assert.ok(!isInside(corner, 50, 80));
  const points = Uint16Array.from([0.5, 0.5, 0.9].map((at) => at * 65535).concat([0.2, 0.8, 0.1].map((at) => at * 65535), [0, NONE, 1]));
  assert.deepEqual(inside(points, WHOLE, 100, 100, corner), [0, 2]);
  assert.deepEqual(inside(points, zoomed(WHOLE, 100, 100, 2), 100, 100, [[-500, -500], [500, -500], [500, 500], [-500, 500]]), [0, 1, 2]);
});

test("small images do not cover each other, and are no more than asked for", () => {
  const places = [0.1, 0.12, 0.5, 0.9], points = Uint16Array.from([...places, ...places, 0, 0, 0, 0].map((at) => at * 65535));
  assert.deepEqual(spaced(points, WHOLE, 400, 400, 60, 10).map((one) => one.dot), [0, 2, 3]);
  assert.equal(spaced(points, WHOLE, 400, 400, 60, 2).length, 2);
});

test("colours of neighbours differ", () => {
  const found = colours(24, false);
  assert.equal(new Set(found).size, 24);
  assert.match(toCss(found[0]), /^rgb\(\d+ \d+ \d+\)$/);
  assert.notDeepEqual(found, colours(24, true));
});

test("a double click is of the image that is nearest, and of none far away", () => {
  const points = Uint16Array.from([0.1, 0.5, 0.9, 0.1, 0.5, 0.9, 0, 0, 0].map((at) => at * 65535));
  assert.equal(nearest(points, WHOLE, 100, 100, 52, 48, 10), 1);
  assert.equal(nearest(points, WHOLE, 100, 100, 70, 30, 10), -1);
});

test("a label is typed so that it is read as it is", () => {
  assert.equal(typedAs(" # one, two: three "), "\\# one\\, two\\: three");
  assert.equal(typedAs("- dog"), "\\- dog");
  assert.equal(typedAs("10:30"), "10:30");
});

test("rows that are shown alone go by their labels' names", () => {
  const pair = { name: "pair-0-1", kind: "pair", of: ["cat", "dog"] }, row = { name: "0", kind: "label", key: "1", of: ["cat"] };
  assert.equal(rowNow(pair, ["dog", "owl", "cat"]).name, "pair-2-0");
  assert.deepEqual(rowNow(row, ["dog", "cat"]), { ...row, name: "1", key: "2" });
  assert.equal(rowNow(row, ["dog"]), null);
  assert.equal(rowNow(pair, undefined), null);
  const unknown = { name: "unknown", kind: "unknown", of: null };
  assert.equal(rowNow(unknown, ["dog"]), unknown);
  assert.ok(layout({ grid: pair, described: { answers: ["cat", "dog"], counts: [1, 2], unknown: 0 } }).single);
});

test("a selection is of images: a sort moves them, and what was not shown is asked for", async () => {
  const asked = [];
  const chosen = new Selection(async (...what) => { asked.push(what); return [7, 8, 9]; }, () => {});
  const items = new Map([[0, [7]], [1, [8]]]);
  chosen.go({ row: 2, index: 0 }, "1", items, false);
  chosen.go({ row: 2, index: 1 }, "1", items, true);
  assert.deepEqual(await chosen.settled(), [7, 8]);
  chosen.move((id) => ({ 7: { row: 0, index: 4 }, 8: { row: 2, index: 3 } })[id]);
  assert.deepEqual([...chosen.ids], [7, 8]);
  assert.deepEqual(chosen.wanted(), [8, 7]);
  assert.ok(chosen.isFocus({ id: 8, row: 2, index: 3 }) && !chosen.isFocus({ id: 5, row: 2, index: 1 }));
  chosen.go({ row: 2, index: 0 }, "1", items, false);
  chosen.go({ row: 2, index: 2 }, "1", items, true);
  assert.equal(chosen.count, 3);
  assert.deepEqual(await chosen.settled(), [7, 8, 9]);
  assert.deepEqual(asked, [["1", 0, 3]]);
  assert.equal(chosen.focus.id, 9);
  chosen.narrow();
  chosen.move(() => null);
  assert.ok(chosen.focus.gone);
  assert.deepEqual(await chosen.settled(), [9]);
});

test("a correction says what it did, and why it did nothing", () => {
  assert.equal(corrected({ label: "red" }, 2, 3), "2 images labelled red");
  assert.equal(corrected({ label: "red" }, 0, 1), "nothing is changed: the image is labelled red already");
  assert.equal(corrected({ clear: true }, 1, 1), "forgot what was said about 1 image");
  assert.equal(corrected({ clear: true }, 0, 2), "nothing is changed: nothing was said about the images");
  assert.equal(corrected({}, 3, 3), "3 images: not this");
  assert.equal(corrected({}, 2, 3), "2 images: not this; 1 had no answer that could be refused");
  assert.equal(corrected({}, 0, 2), "nothing is changed: the images have no answer that could be refused");
});

test("a histogram is told in a line", () => {
  assert.equal(spread([0, 1, 4, 0, 5]), "Histogram of the best probabilities: a tenth of the images up to 40 %, half up to 60 %, nine tenths up to 100 %");
  assert.equal(spread([0, 0]), "Histogram of the best probabilities: no images");
});
