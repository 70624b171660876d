// Formats numbers, keys and counts as text; uses nothing of the page.
export const percent = (value) => {
  const hundredths = 100 * value;
  if (hundredths > 0 && hundredths < 0.1) return "<0.1 %";
  return `${hundredths.toFixed(1)} %`;
};
export const short = (value) => `${Math.round(100 * value)} %`;
export const cosine = (value) => value.toFixed(3);
export const number = (value) => value.toLocaleString("en");
export const images = (count) => `${number(count)} image${count === 1 ? "" : "s"}`;

// A histogram of probabilities as a line: below which of them a tenth, half and nine tenths of the images are.
export const spread = (counts) => {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (!total) return "Histogram of the best probabilities: no images";
  const below = (share) => {
    let sum = 0;
    return short((counts.findIndex((count) => (sum += count) >= share * total) + 1) / counts.length);
  };
  return `Histogram of the best probabilities: a tenth of the images up to ${below(0.1)}, half up to ${below(0.5)}, nine tenths up to ${below(0.9)}`;
};

// What a correction did: { label }, { clear: true } or {} for "not this", of which some or all images had no need.
export const corrected = ({ label, clear }, changed, of) => {
  const these = of === 1 ? "the image" : "the images";
  if (!changed) {
    if (label) return `nothing is changed: ${these} ${of === 1 ? "is" : "are"} labelled ${label} already`;
    if (clear) return `nothing is changed: nothing was said about ${these}`;
    return `nothing is changed: ${these} ${of === 1 ? "has" : "have"} no answer that could be refused`;
  }
  if (label) return `${images(changed)} labelled ${label}`;
  if (clear) return `forgot what was said about ${images(changed)}`;
  return `${images(changed)}: not this${changed < of ? `; ${number(of - changed)} had no answer that could be refused` : ""}`;
};

const RESERVED = "xucmlgv";
export const KEYS = [..."123456789", ..."qwertyiopasdfhjkzvbn"].filter((key) => !RESERVED.includes(key));
// A key for each label, in order; labels beyond them have none.
export const keyOf = (index) => KEYS[index] ?? "";
export const labelOf = (key, count) => {
  const index = KEYS.indexOf(key);
  return index >= 0 && index < count ? index : -1;
};

export const accuracy = (found) => {
  const [right, of, value, low, high] = found.answered;
  const range = (a, b) => `${Math.round(100 * a)} to ${Math.round(100 * b)} %`;
  const whole = `${number(found.right)} of ${number(found.of)} right (${range(found.low, found.high)})`;
  return { value: short(found.value), whole, answered: of ? `of those that are not unknown ${short(value)} of ${number(of)} (${range(low, high)}), ${number(right)} right` : "all of them are unknown" };
};

// A label as it is typed: what would be read otherwise has a backslash before it.
export const typedAs = (name) => name.trim().replace(/[\\,]/g, "\\$&").replace(/:(?=\s|$)/g, "\\:").replace(/^(?=#|- )/, "\\");
