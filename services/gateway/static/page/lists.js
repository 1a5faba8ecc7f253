// The videos of a search as a list to take along: JSON, CSV, M3U, plain addresses.

import { address } from "./address.js";
import { slug, titleOf } from "./words.js";

// Those of REST (services/gateway/representations.py), in its order: a test compares the two.
const COLUMNS = {
  id: (video) => video.id,
  kind: (video) => video.kind,
  verified: (video) => video.verified ?? false,
  url: (video) => video.url,
  width: (video) => video.width,
  height: (video) => video.height,
  duration_ms: (video) => video.duration_ms,
  size_bytes: (video) => video.size_bytes,
  codec: (video) => video.codec,
  title: ({ pin }) => pin?.title,
  description: ({ pin }) => pin?.description,
  creator: ({ pin }) => pin?.creator?.username,
  creator_name: ({ pin }) => pin?.creator?.full_name,
  board: ({ pin }) => pin?.board?.name,
  pin_url: ({ pin }) => pin?.url,
  created_at: ({ pin }) => pin?.created_at,
  poster_url: (video) => video.poster_url,
};

const FORMATS = {
  json: ["application/json", json],
  csv: ["text/csv", csv],
  m3u: ["audio/x-mpegurl", m3u],
  txt: ["text/plain", (found) => links(found).map((url) => `${url}\n`).join("")],
};

/** The addresses that may be followed. */
export const links = (found) => found.map(({ video }) => address(video.url)).filter(Boolean);

/** A file of `found`, [{sequence, video}], in one of FORMATS, and its name. */
export function listOf(query, found, format) {
  const [type, text] = FORMATS[format];
  const name = `pinstream-${slug(query) || "links"}.${format}`;
  return { name, blob: new Blob([text(found)], { type: `${type};charset=utf-8` }) };
}

function json(found) {
  return `[${found.map(({ video }) => `\n${JSON.stringify(video)}`).join(",")}\n]\n`;
}

function csv(found) {
  const rows = found.map(({ sequence, video }) => [sequence, ...Object.values(COLUMNS).map((of) => of(video))]);
  return [["sequence", ...Object.keys(COLUMNS)], ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

const CALCULATES = /([;\t\r\n])(?=[=@]|[+-](?![ )]))/g;

/** A spreadsheet must not take a text for a formula, nor a part of one where it splits at semicolons; as REST has it. */
function cell(value) {
  const told = typeof value === "string" ? value.replace(CALCULATES, "$1'") : String(value ?? "");
  const inert = typeof value === "string" && /^[=+\-@\t\r\n]/.test(told) ? `'${told}` : told;
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}

/** What a player opens: files and streams, no pages. A title must stay on its line. */
function m3u(found) {
  const lines = ["#EXTM3U", "#EXTENC:UTF-8"];
  for (const { video } of found) {
    const url = address(video.url);
    if (!url || video.kind === "embed") continue;
    const seconds = video.duration_ms > 0 ? Math.round(video.duration_ms / 1000) : -1;
    const title = (titleOf(video) || video.id).replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ");
    lines.push(`#EXTINF:${seconds},${title}`, url);
  }
  return `${lines.join("\n")}\n`;
}
