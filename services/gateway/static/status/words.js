// Words and figures, and the elements that hold them: what comes from the gateway reaches the document by textContent alone.

export const $ = (id) => document.getElementById(id);

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Sets the text of `node` unless it says so already. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const whole = new Intl.NumberFormat("en");
const some = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export const NOTHING = "–";
export const count = (value) => (value === null || value === undefined ? NOTHING : whole.format(value));
export const number = (value) => (value === null || value === undefined ? NOTHING
  : value && value < 1 ? fine.format(value) : value < 100 ? some.format(value) : whole.format(Math.round(value)));
export const milliseconds = (value) => (value === null || value === undefined ? NOTHING
  : value < 1_000 ? `${number(value)} ms` : value < 100_000 ? `${number(value / 1000)} s` : span(value / 1000));
export const hour = (seconds) => minute.format(new Date(seconds * 1000));
export const time = (iso) => clock.format(new Date(iso));

export function span(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  for (const [unit, length] of [["d", 86_400], ["h", 3_600], ["min", 60]]) {
    if (seconds >= 2 * length) return `${Math.round(seconds / length)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NOTHING;
  const [unit, size] = value >= 1e9 ? ["GB", 1e9] : value >= 1e6 ? ["MB", 1e6] : ["kB", 1e3];
  return `${number(value / size)} ${unit}`;
}

export const since = (iso, now) => (Date.parse(now) - Date.parse(iso)) / 1000;
export const capital = (text) => text && text[0].toUpperCase() + text.slice(1);
export const spaced = (name) => name.replaceAll("_", " ").replaceAll("-", " ");
