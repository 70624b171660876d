// Numbers and keys as words; nothing here knows of the page.
export const percent = (value) => {
  const hundredths = 100 * value;
  if (hundredths > 0 && hundredths < 0.1) return "<0.1 %";
  return `${hundredths.toFixed(1)} %`;
};
export const short = (value) => `${Math.round(100 * value)} %`;
export const cosine = (value) => value.toFixed(3);
export const number = (value) => value.toLocaleString("en");
export const images = (count) => `${number(count)} image${count === 1 ? "" : "s"}`;

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
  return { value: short(found.value), whole, answered: of ? `at the threshold ${short(value)} of ${number(of)} (${range(low, high)}), ${number(right)} right` : "none reaches the threshold" };
};

// A label as it is typed: what would be read otherwise has a backslash before it.
export const typedAs = (name) => name.trim().replace(/[\\,]/g, "\\$&").replace(/:(?=\s|$)/g, "\\:").replace(/^(?=#|- )/, "\\");
