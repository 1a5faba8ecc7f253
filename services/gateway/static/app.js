// The page of the gateway: one search at a time over the WebSocket protocol v1 (docs/websocket.md).
// Whatever comes in a frame reaches the document by textContent or a checked address only.

const SUBPROTOCOL = "pinstream.v1";
const BACK_OFF_MS = { first: 500, most: 15_000 };
const HEARTBEAT_MS = 20_000; // a connection that answers no ping within one more beat is taken for dead
const HASH_EVERY_MS = 1_000; // browsers refuse more than some 100 history entries in 30 s
const ANNOUNCE_EVERY_MS = 5_000; // a screen reader must get to the end of its sentence
const GHOSTS = 6;

const KINDS = { mp4: "MP4", hls: "HLS", embed: "Embed" };
const CODECS = { h264: "H.264", hevc: "HEVC", av1: "AV1" };
const FIELDS = { "parameters.search_query": "query", "parameters.url": "query", "parameters.result_limit": "limit" };
// What is meant as an address: it has a scheme, or a path on a host of Pinterest (libs/common/source.py).
const ADDRESS = /^(?:[a-z][a-z0-9+.-]*:\/\/|(?:(?:[a-z0-9-]+\.)*pinterest\.(?:com|info|[a-z]{2}|com?\.[a-z]{2})|pin\.it)\/+[^\s/])\S*$/i;
const FAILURES = {
  rate_limited: "The site asks for fewer requests. Wait some minutes, then search again.",
  blocked: "The site refuses requests from this network. Try again later or from another network.",
  login_required: "The site shows this only to people who are logged in.",
  upstream_changed: "The site has changed its format, so nothing could be read. A newer version is needed.",
  not_found: "There is nothing at this address, or it is private.",
  unreachable: "The site cannot be reached from the server. Check its network and proxy.",
  browser_failed: "The browser on the server failed. Its log says why; `pinstream doctor` checks the installation.",
  failed: "The search failed. The server's log says why.",
};

const $ = (id) => document.getElementById(id);
const ui = Object.fromEntries(
  ["search", "query", "limit", "start", "cancel", "notice", "notice-text", "status", "topic", "state", "bar", "found",
    "of", "repeats", "unavailable", "first", "copy-all", "welcome", "grid", "empty", "live", "toast", "card"]
    .map((id) => [id.replace(/-(.)/g, (_, letter) => letter.toUpperCase()), $(id)]),
);

/** What is known of the search that is shown, or null. `before` is the one that a refused search gives way to. */
let run = null;
let line = null;

function newRun(fields) {
  return {
    session: null, query: "", limit: null, sequence: 0, videos: new Map(), repeats: 0, unavailable: 0,
    asked: false, askedAt: null, firstS: null, shown: false, cancelling: false, over: false, before: null, ...fields,
  };
}

// Words and figures

const whole = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

const plural = (count, noun) => `${whole.format(count)} ${noun}${count === 1 ? "" : "s"}`;
const seconds = (value) => (value < 10 ? `${value.toFixed(1)} s` : value < 90 ? `${Math.round(value)} s`
  : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`);
const sentence = (text) => {
  const trimmed = text.trim();
  return trimmed && trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? "" : ".");
};

function length(ms) {
  if (!(ms > 0)) return "";
  const total = Math.max(1, Math.round(ms / 1000));
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor((total % 3600) / 60), total % 60];
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

function size(bytes) {
  if (!(bytes > 0)) return "";
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

const dimensions = ({ width, height }) => (width && height ? `${width} × ${height}` : "");

/** `text` as an address that may be followed, or null: http and https only. */
function address(text) {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

const slug = (text, most = 48) =>
  text.normalize("NFKD").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").toLowerCase().slice(0, most);

const titleOf = ({ pin }) => pin?.title?.trim() || pin?.description?.trim().split("\n")[0] || "";

// The connection: back again after a drop, resuming after the last sequence

class Line {
  constructor(onOpen, onFrame, onLost, onRefused) {
    Object.assign(this, { onOpen, onFrame, onLost, onRefused, attempt: 0, socket: null, retry: null, silent: false });
    this.open();
  }

  open() {
    clearTimeout(this.retry);
    this.retry = null;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws`, SUBPROTOCOL);
    this.socket = socket;
    const mine = (handle) => (event) => this.socket === socket && handle(event);
    socket.onopen = mine(() => {
      this.silent = false;
      this.beat = setInterval(() => this.check(), HEARTBEAT_MS);
      this.onOpen();
    });
    socket.onmessage = mine(({ data }) => {
      this.attempt = 0;
      this.silent = false;
      let frame = null;
      try {
        frame = JSON.parse(data);
      } catch {
        return;
      }
      this.onFrame(frame);
    });
    socket.onclose = mine(({ code, reason }) => {
      if (code >= 4500 && code < 5000) {
        this.close();
        this.onRefused(reason);
      } else {
        this.lost();
      }
    });
  }

  check() {
    if (this.silent) {
      this.socket.close();
      this.lost();
    } else {
      this.silent = true;
      this.send("ping");
    }
  }

  lost() {
    clearInterval(this.beat);
    this.socket = null;
    const most = Math.min(BACK_OFF_MS.most, BACK_OFF_MS.first * 2 ** this.attempt++);
    const wait = most * (0.5 + Math.random() / 2); // a gateway that restarts must not meet all its clients at once
    this.retry = setTimeout(() => this.open(), wait);
    this.onLost(wait);
  }

  hurry() {
    if (this.retry !== null) this.open();
  }

  send(operation, parameters) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify({ operation, parameters, id: operation }));
    return true;
  }

  close() {
    clearTimeout(this.retry);
    clearInterval(this.beat);
    const { socket } = this;
    this.socket = this.retry = null;
    socket?.close();
  }
}

function connect() {
  line?.close();
  line = new Line(opened, received, lost, refused);
}

function opened() {
  if (run.session) {
    line.send("resume_extraction", { session_id: run.session, after: run.sequence });
    if (run.cancelling) line.send("cancel_extraction", { session_id: run.session });
  } else {
    run.asked = true;
    run.askedAt = performance.now();
    const asked = ADDRESS.test(run.query) ? { url: run.query } : { search_query: run.query };
    line.send("initiate_extraction", { ...asked, result_limit: run.limit });
  }
}

function lost(wait) {
  if (run.asked && !run.session) {
    abandon("The connection was lost before the search was accepted. Try again.");
    return;
  }
  if (!run.shown) show();
  const again = wait < 1500 ? "trying again" : `trying again in ${Math.round(wait / 1000)} s`;
  tell("offline", run.session ? `Connection lost, ${again}` : `The server cannot be reached, ${again}`);
}

function refused(reason) {
  abandon(sentence(reason || "The server closed the connection and does not want this client back"));
}

// Frames

function received(frame) {
  if (frame.session_id && run.session && frame.session_id !== run.session) return;
  const handle = { accepted, video, progress, completed, error: failed }[frame.event];
  handle?.(frame);
}

function accepted(frame) {
  run.session = frame.session_id;
  run.sequence = frame.sequence;
  run.before = null;
  show();
  tell("running", "Waiting for a crawler");
  announce(`Searching for ${run.query}`, true);
  remember(true);
  if (run.cancelling) line.send("cancel_extraction", { session_id: run.session });
}

function video(frame) {
  run.sequence = Math.max(run.sequence, frame.sequence);
  if (!frame.video?.id || run.videos.has(frame.video.id)) return;
  run.videos.set(frame.video.id, frame.video);
  if (run.videos.size === 1) {
    ui.grid.replaceChildren();
    if (run.askedAt !== null) run.firstS = (performance.now() - run.askedAt) / 1000;
  }
  ui.grid.append(card(frame.video));
  if (ui.status.dataset.phase !== "running") tell("running", "Crawling");
  count();
  remember();
  announce(`${plural(run.videos.size, "video")} found`);
}

function progress(frame) {
  run.repeats = frame.repeats;
  run.unavailable = frame.unavailable;
  count();
  tell("running", run.cancelling ? "Cancelling" : stateLine(frame));
}

function stateLine({ state, pages, waiting_for: what, waiting_until: until }) {
  const read = pages ? `, ${plural(pages, "page")} read` : "";
  switch (state) {
    case "queued": return "Waiting for a crawler";
    case "starting": return "Starting the browser";
    case "crawling": return `Crawling${read}`;
    case "waiting": {
      const time = until ? ` until ${clock.format(until * 1000)}` : "";
      return `Waiting${what ? ` for ${what}` : ""}${time}${read}`;
    }
    case "finishing": return "Finishing: the last videos are being checked";
    default: return state;
  }
}

function completed({ sequence, reason, summary, message }) {
  run.over = true;
  run.sequence = Math.max(run.sequence, sequence);
  run.repeats = summary.repeats;
  run.unavailable = summary.unavailable;
  run.firstS = summary.first_video_s ?? run.firstS;
  line.close();
  if (!run.videos.size) ui.grid.replaceChildren();
  const took = summary.elapsed_s == null ? "" : ` in ${seconds(summary.elapsed_s)}`;
  const endings = {
    limit: `Done${took}, the limit is reached`,
    exhausted: `Done${took}, the site has no more`,
    cancelled: "Cancelled",
    deadline: `Stopped at the time limit${took}`,
  };
  const ending = endings[reason];
  if (!ending) notify(message ? sentence(message) : FAILURES[reason] ?? FAILURES.failed);
  tell(ending ? "done" : "failed", ending ?? `Ended: ${String(reason).replaceAll("_", " ")}`);
  if (!run.videos.size && ending) {
    const none = ADDRESS.test(run.query) ? "There are no videos at this address." : "The site has no videos on this topic. Try other words.";
    ui.empty.textContent = message ? sentence(message) : reason === "exhausted" ? none : "No video was found.";
    ui.empty.hidden = false;
  }
  count();
  remember(false, true);
  running(false);
  announce(`${ui.state.textContent}. ${plural(run.videos.size, "video")}.`, true);
}

function failed({ id, code, message, field, retry_after_s: wait }) {
  const later = wait ? ` Try again in ${seconds(wait)}.` : "";
  const names = { search_query: "the topic", url: "the address", result_limit: "the limit" };
  const text = sentence(message.replace(/^(search_query|url|result_limit)\b/, (name) => names[name])) + later;
  if (code === "unknown_session" || code === "expired") {
    forget();
    abandon("This search is no longer kept. Start it again.");
  } else if (id === "initiate_extraction") {
    abandon(FIELDS[field] ? null : text);
    if (FIELDS[field]) fault(FIELDS[field], text);
  } else {
    if (id === "cancel_extraction") {
      run.cancelling = false;
      ui.cancel.ariaDisabled = null;
    }
    notify(text);
  }
}

// What is shown

function show() {
  run.shown = true;
  ui.welcome.hidden = ui.empty.hidden = ui.notice.hidden = true;
  ui.status.hidden = false;
  ui.topic.textContent = run.query || "Search";
  ui.grid.replaceChildren(...Array.from({ length: GHOSTS }, () => {
    const ghost = document.createElement("li");
    ghost.className = "ghost";
    ghost.ariaHidden = "true";
    return ghost;
  }));
  count();
}

function count() {
  const found = run.videos.size;
  ui.found.textContent = whole.format(found);
  ui.of.textContent = run.limit ? ` / ${whole.format(run.limit)}` : "";
  ui.bar.max = run.limit || Math.max(found, 1);
  ui.bar.value = found;
  ui.repeats.textContent = whole.format(run.repeats);
  ui.unavailable.textContent = whole.format(run.unavailable);
  ui.first.textContent = run.firstS === null ? "–" : seconds(run.firstS);
  for (const button of [ui.copyAll, ...document.querySelectorAll("[data-list]")]) button.disabled = !found;
  const figures = run.limit ? `${found}/${run.limit}` : found;
  document.title = `${figures} ${run.query} · pinstream`;
}

function tell(phase, text) {
  ui.status.dataset.phase = phase;
  ui.state.textContent = text;
}

/** Switches between Search and Cancel; whoever stood on one button stands on the other. */
function running(on) {
  const [from, to] = on ? [ui.start, ui.cancel] : [ui.cancel, ui.start];
  const held = document.activeElement === from;
  ui.start.hidden = on;
  ui.cancel.hidden = !on;
  ui.cancel.ariaDisabled = null;
  ui.query.readOnly = ui.limit.readOnly = on;
  if (held) to.focus();
}

/** Ends the search without an answer; what a new one would have replaced stays. */
function abandon(text) {
  line?.close();
  const { before, shown } = run;
  run.over = true;
  if (!shown && before) {
    run = before;
  } else if (!run.videos.size) {
    ui.grid.replaceChildren();
    ui.status.hidden = true;
    ui.welcome.hidden = false;
    run = null;
    document.title = "pinstream";
  } else {
    tell("failed", "Ended");
  }
  running(false);
  if (text) notify(text);
}

function notify(text) {
  ui.notice.hidden = false;
  ui.noticeText.textContent = text;
}

function fault(id, text) {
  $(`${id}-error`).textContent = text;
  $(id).setAttribute("aria-invalid", "true");
  $(id).focus();
}

function clearFaults() {
  for (const id of Object.values(FIELDS)) {
    $(`${id}-error`).textContent = "";
    $(id).removeAttribute("aria-invalid");
  }
  ui.notice.hidden = true;
}

let announcedAt = -Infinity;

function announce(text, now = false) {
  if (!now && performance.now() - announcedAt < ANNOUNCE_EVERY_MS) return;
  announcedAt = performance.now();
  ui.live.textContent = text;
}

let toastEnds = null;

function toast(text) {
  clearTimeout(toastEnds);
  ui.toast.hidden = false;
  ui.toast.textContent = text;
  toastEnds = setTimeout(() => { ui.toast.hidden = true; }, 5000);
}

// A video's card

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

/** A link where `url` may be followed, else plain text. */
function linkTo(url, text) {
  const href = address(url);
  if (!href) return document.createTextNode(text);
  return Object.assign(element("a", text), { href, target: "_blank", rel: "noopener noreferrer" });
}

function card(video) {
  const made = ui.card.content.firstElementChild.cloneNode(true);
  const part = (name) => made.querySelector(`.${name}`);
  const href = address(video.url);
  const name = titleOf(video) || "Untitled video";
  const long = length(video.duration_ms);
  made.dataset.video = video.id;
  made.classList.add("new");

  part("title").textContent = name;
  part("title").classList.toggle("untitled", !titleOf(video));
  const creator = video.pin?.creator;
  const who = creator?.full_name || (creator?.username ? `@${creator.username}` : "");
  if (who) part("creator").append(linkTo(creator.url, who));
  part("facts").textContent = [dimensions(video), size(video.size_bytes)].filter(Boolean).join(" · ");
  part("length").textContent = long;

  const badge = part("badge");
  badge.textContent = KINDS[video.kind] ?? video.kind;
  badge.append(element("span", video.verified ? ", verified" : ", not verified", "visually-hidden"));
  if (video.verified) badge.append(icon("check"));

  poster(part("poster"), video, href, long ? `${name}, ${long}` : name);
  actions(made, video, href, name);
  part("description").textContent = video.pin?.description?.trim() ?? "";
  part("metadata").append(...metadata(video));
  return made;
}

function poster(button, video, href, name) {
  const frame = button.parentElement;
  const color = video.pin?.dominant_color;
  if (/^#[0-9a-f]{6}$/i.test(color ?? "")) frame.style.backgroundColor = color;
  const image = button.querySelector("img");
  const source = address(video.poster_url);
  if (source) image.src = source;
  image.onerror = () => image.removeAttribute("src");
  if (video.kind === "embed") {
    const link = Object.assign(element("a", "", "poster"), { target: "_blank", rel: "noopener noreferrer" });
    if (href) link.href = href;
    link.ariaLabel = `Open ${name} on its own site`;
    link.append(...button.childNodes);
    button.replaceWith(link);
    return;
  }
  button.ariaLabel = `Play ${name}`;
  button.disabled = !href;
  button.onclick = () => play(button, video, href, name);
}

function play(button, { kind }, href, name) {
  const frame = button.parentElement;
  const remark = frame.parentElement.querySelector(".remark");
  const player = document.createElement("video");
  if (kind === "hls" && !player.canPlayType("application/vnd.apple.mpegurl")) {
    explain(remark, "This browser does not play HLS streams. Safari and players such as mpv or VLC do: ", href);
    return;
  }
  Object.assign(player, { controls: true, playsInline: true, preload: "auto", ariaLabel: name, tabIndex: 0 });
  player.poster = button.querySelector("img").src;
  player.onplay = () => document.querySelectorAll(".frame video").forEach((other) => other === player || other.pause());
  player.onerror = () => {
    const held = frame.contains(document.activeElement);
    player.replaceWith(button);
    frame.classList.remove("playing");
    if (held) button.focus();
    explain(remark, "This could not be played here. ", href);
  };
  player.src = href;
  remark.hidden = true;
  button.replaceWith(player);
  frame.classList.add("playing");
  player.focus({ preventScroll: true });
  player.play().catch(() => {}); // refused or failed: the controls, or onerror, say so
}

function explain(remark, text, href) {
  remark.replaceChildren(text, linkTo(href, "open the link"), ".");
  remark.hidden = false;
}

function actions(made, video, href, name) {
  const [copy, open, save] = [".copy", ".open", ".save"].map((name_) => made.querySelector(name_));
  if (!href) {
    made.querySelector(".actions").remove();
    return;
  }
  copy.ariaLabel = `Copy link of ${name}`;
  copy.onclick = () => copied(copy, href);
  open.href = href;
  open.title = "Open in a new tab";
  open.ariaLabel = `Open ${name} in a new tab`;
  if (video.kind !== "mp4") {
    save.remove();
    return;
  }
  save.href = href;
  save.download = `${slug(titleOf(video)) || "video"}-${String(video.id).slice(0, 8)}.mp4`;
  save.title = "Download";
  save.ariaLabel = `Download ${name}`;
  save.onclick = (event) => {
    event.preventDefault();
    download(save);
  };
}

function metadata({ id, codec, kind, verified, captions, alternatives, pin = {} }) {
  const rows = [];
  const row = (term, ...content) => {
    const value = document.createElement("dd");
    content.forEach((part, index) => value.append(...(index ? [", ", part] : [part])));
    rows.push(element("dt", term), value);
  };
  if (pin.id || address(pin.url)) row("Pin", address(pin.url) ? linkTo(pin.url, "View pin") : String(pin.id));
  if (pin.board?.name) row("Board", linkTo(pin.board.url, pin.board.name));
  const created = new Date(pin.created_at ?? NaN);
  if (!Number.isNaN(created.getTime())) row("Published", day.format(created));
  if (pin.reactions) row("Reactions", whole.format(pin.reactions));
  if (pin.promoted) row("Promoted", "yes");
  if (address(pin.link)) row("Source", linkTo(pin.link, new URL(pin.link).hostname.replace(/^www\./, "")));
  const coded = [KINDS[kind], CODECS[codec] ?? codec, verified ? "verified" : "not verified"];
  row("Link", coded.filter(Boolean).join(", "));
  const spoken = Object.entries(captions ?? {});
  if (spoken.length) row("Captions", ...spoken.map(([locale, url]) => linkTo(url, locale)));
  const others = (alternatives ?? []).filter(({ url }) => address(url));
  if (others.length) {
    row("Also as", ...others.map((other) =>
      linkTo(other.url, [KINDS[other.kind] ?? other.kind, CODECS[other.codec], dimensions(other)].filter(Boolean).join(" "))));
  }
  row("Id", element("code", id));
  return rows;
}

// Taking the links along

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not a secure context, or not allowed: the old way
    const field = element("textarea", text, "visually-hidden");
    const held = document.activeElement;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    held?.focus();
    if (!done) throw new Error("the browser does not allow copying");
  }
}

async function copied(button, text) {
  const label = button.querySelector(".label") ?? button;
  const [use, before] = [button.querySelector("use"), button.dataset.label ?? label.textContent];
  button.dataset.label = before;
  try {
    await toClipboard(text);
  } catch {
    toast("This browser does not allow copying from here. Open the link and copy its address.");
    return;
  }
  label.textContent = "Copied";
  button.classList.add("done");
  use?.setAttribute("href", "#i-check");
  announce("Link copied", true);
  setTimeout(() => {
    label.textContent = before;
    button.classList.remove("done");
    use?.setAttribute("href", "#i-link");
  }, 1600);
}

function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // a slow disk may still be reading
}

/** Saves a video as a file where its host lets pages read it; elsewhere browsers only open it. */
async function download(link) {
  if (link.ariaBusy === "true") return;
  link.ariaBusy = "true";
  try {
    const answer = await fetch(link.href, { credentials: "omit" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    saveAs(await answer.blob(), link.download);
  } catch {
    window.open(link.href, "_blank", "noopener,noreferrer");
    toast("This host does not let pages save its files. The video opens in a new tab; save it from there.");
  } finally {
    link.ariaBusy = null;
  }
}

const COLUMNS = {
  id: (video) => video.id,
  kind: (video) => video.kind,
  verified: (video) => video.verified,
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

function cell(value) {
  const text = String(value ?? "");
  const inert = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; // a spreadsheet would take it for a formula
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}

const LISTS = {
  txt: ["text/plain", (videos) => links(videos).map((url) => `${url}\n`).join("")],
  jsonl: ["application/x-ndjson", (videos) => videos.map((video) => `${JSON.stringify(video)}\n`).join("")],
  csv: ["text/csv", (videos) => [Object.keys(COLUMNS), ...videos.map((video) => Object.values(COLUMNS).map((of) => of(video)))]
    .map((row) => `${row.map(cell).join(",")}\r\n`).join("")],
};

const links = (videos) => videos.map(({ url }) => url).filter(address);

function saveList(format) {
  const [type, text] = LISTS[format];
  const name = `pinstream-${slug(run.query) || "links"}.${format}`;
  saveAs(new Blob([text([...run.videos.values()])], { type: `${type};charset=utf-8` }), name);
}

// The address bar: #session=…&sequence=…&query=…&limit=…

let rememberedAt = 0;
let rememberLater = null;

function remember(fresh = false, now = fresh) {
  clearTimeout(rememberLater);
  const wait = HASH_EVERY_MS - (performance.now() - rememberedAt);
  if (!now && wait > 0) {
    rememberLater = setTimeout(() => remember(false, true), wait);
    return;
  }
  if (!run?.session) return;
  rememberedAt = performance.now();
  const { session, sequence, query, limit } = run;
  const hash = new URLSearchParams({ session, sequence, query, ...(limit && { limit }) });
  history[fresh ? "pushState" : "replaceState"](null, "", `#${hash}`);
}

function forget() {
  clearTimeout(rememberLater);
  history.replaceState(null, "", location.pathname);
}

/** Shows the session that the address bar names, all of it again. */
function recall() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const session = hash.get("session") ?? "";
  if (session === (run?.session ?? "")) return;
  clearTimeout(rememberLater);
  line?.close();
  clearFaults();
  if (!/^[\w-]{1,128}$/.test(session)) {
    run = newRun();
    abandon(null);
    return;
  }
  const limit = Number(hash.get("limit"));
  run = newRun({ session, query: hash.get("query") ?? "", limit: Number.isInteger(limit) && limit > 0 ? limit : null });
  ui.query.value = run.query;
  if (run.limit) ui.limit.value = run.limit;
  show();
  tell("running", "Resuming");
  running(true);
  connect();
}

// What the user does

function start(event) {
  event.preventDefault();
  if (run && !run.over) return;
  clearFaults();
  const limit = Number(ui.limit.value);
  if (ui.limit.value.trim() === "" || !Number.isSafeInteger(limit)) {
    fault("limit", "The limit must be a whole number.");
    return;
  }
  run = newRun({ query: ui.query.value.trim(), limit, before: run });
  running(true);
  connect();
}

function cancel() {
  if (run.cancelling) return;
  run.cancelling = true;
  ui.cancel.ariaDisabled = "true"; // disabled would drop the focus
  if (!run.asked && !run.session) {
    abandon(null);
    return;
  }
  tell(ui.status.dataset.phase, "Cancelling");
  if (run.session) line.send("cancel_extraction", { session_id: run.session });
}

ui.search.addEventListener("submit", start);
ui.cancel.addEventListener("click", cancel);
ui.search.addEventListener("input", clearFaults);
$("notice-close").addEventListener("click", () => {
  ui.notice.hidden = true;
  ui.query.focus();
});
ui.copyAll.addEventListener("click", () => copied(ui.copyAll, links([...run.videos.values()]).join("\n")));
for (const button of document.querySelectorAll("[data-list]")) {
  button.addEventListener("click", () => saveList(button.dataset.list));
}
for (const chip of document.querySelectorAll("[data-query]")) {
  chip.addEventListener("click", () => {
    ui.query.value = chip.dataset.query;
    ui.search.requestSubmit();
  });
}
window.addEventListener("hashchange", recall);
window.addEventListener("online", () => line?.hurry());
document.addEventListener("visibilitychange", () => document.hidden || line?.hurry());
window.addEventListener("pagehide", () => run?.shown && remember(false, true));
if (location.hash) recall();
else ui.query.focus();
