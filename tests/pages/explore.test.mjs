// The live page's modules that know nothing of the page: geometry, numbers as words, keys, requests that overtake.
import assert from "node:assert/strict";
import { test } from "node:test";

const folder = new URL("../../zeroshot/explore/page/", import.meta.url);
const { chunks, columns, gridRange, rowRange, rowTops, stripRange, CHUNK, GAP, HEADER, MOST_IN_STRIP } = await import(new URL("geometry.js", folder));
const { KEYS, accuracy, images, keyOf, labelOf, percent } = await import(new URL("format.js", folder));
const { NONE, WHOLE, colours, inside, isInside, moved, spaced, toCss, toWindow, zoomed } = await import(new URL("map_geometry.js", folder));
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
  assert.equal(said.answered, "none reaches the threshold");
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
