// Words and figures: how what a frame says is told to a person.

const whole = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

export const KINDS = { mp4: "MP4", hls: "HLS", embed: "Embed" };
export const CODECS = { h264: "H.264", hevc: "HEVC", av1: "AV1" };
export const FAILURES = {
  rate_limited: "The site asks for fewer requests. Wait some minutes, then search again.",
  blocked: "The site refuses requests from this network. Try again later or from another network.",
  login_required: "The site shows this only to people who are logged in.",
  upstream_changed: "The site has changed its format, so nothing could be read. A newer version is needed.",
  not_found: "There is nothing at this address, or it is private.",
  unreachable: "The site cannot be reached from the server. Check its network and proxy.",
  browser_failed: "The browser on the server failed. Its log says why; `pinstream doctor` checks the installation.",
  failed: "The search failed. The server's log says why.",
};

export const number = (value) => whole.format(value);
export const time = (seconds) => clock.format(seconds * 1000);
export const plural = (count, noun, nouns = `${noun}s`) => `${whole.format(count)} ${count === 1 ? noun : nouns}`;

export const seconds = (value) => (value < 10 ? `${value.toFixed(1)} s` : value < 90 ? `${Math.round(value)} s`
  : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`);

/** `text` with a capital at its beginning and a stop at its end. */
export function sentence(text) {
  const trimmed = text.trim();
  return trimmed && trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? "" : ".");
}

/** Milliseconds as 1:15, or nothing where they are not known. */
export function length(ms) {
  if (!(ms > 0)) return "";
  const total = Math.max(1, Math.round(ms / 1000));
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor((total % 3600) / 60), total % 60];
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export function size(bytes) {
  if (!(bytes > 0)) return "";
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

export const dimensions = ({ width, height }) => (width && height ? `${width} × ${height}` : "");

/** The day of an ISO 8601 time, or nothing. */
export function date(text) {
  const moment = new Date(text ?? NaN);
  return Number.isNaN(moment.getTime()) ? "" : day.format(moment);
}

export const titleOf = ({ pin }) => pin?.title?.trim() || pin?.description?.trim().split("\n")[0] || "";

export const slug = (text, most = 48) =>
  text.normalize("NFKD").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").toLowerCase().slice(0, most);
