// A video's card: its poster, what it is called, and what can be done with its link.

import { address } from "./address.js";
import { $, copyOf, element, icon, linkTo } from "./element.js";
import { CODECS, KINDS, date, dimensions, length, number, size, slug, titleOf } from "./words.js";

const nameOf = (video) => titleOf(video) || "Untitled video";
const kindOf = ({ kind }) => KINDS[kind] ?? String(kind);

/** `actions` has play(frame, video, name), copy(button, href), save(link) and details(video). */
export function cardOf(video, actions) {
  const card = copyOf($("card"));
  const part = (name) => card.querySelector(`.${name}`);
  const name = nameOf(video);
  const href = address(video.url);
  const long = length(video.duration_ms);
  const title = part("title");
  title.id = `title-${String(video.id).replace(/[^\w-]/g, "")}`;
  card.setAttribute("aria-labelledby", title.id);
  title.textContent = name;
  title.classList.toggle("untitled", !titleOf(video));
  part("creator").append(...creator(video.pin?.creator));
  part("facts").textContent = [dimensions(video), size(video.size_bytes)].filter(Boolean).join(" · ");
  part("length").textContent = long;
  badge(part("badge"), video);
  poster(card, video, href, long ? `${name}, ${long}` : name, actions);
  tools(card, video, href, name, actions);
  return card;
}

function creator(who) {
  const name = who?.full_name || (who?.username ? `@${who.username}` : "");
  return name ? [linkTo(who.url, name)] : [];
}

function badge(node, video) {
  node.textContent = kindOf(video);
  if (video.verified) node.append(element("span", ", verified", "visually-hidden"), icon("check"));
  else node.append(element("span", "· unverified", "doubt"));
}

function poster(card, video, href, name, { play }) {
  const frame = card.querySelector(".frame");
  const button = card.querySelector(".poster");
  const image = button.querySelector("img");
  const color = video.pin?.dominant_color;
  if (/^#[0-9a-f]{6}$/i.test(color ?? "")) frame.style.backgroundColor = color;
  image.onerror = () => {
    image.removeAttribute("src");
    frame.classList.add("bare");
  };
  const source = address(video.poster_url);
  if (source) image.src = source;
  else frame.classList.add("bare");
  if (video.kind === "embed") {
    const link = Object.assign(element("a", "", "poster"), { target: "_blank", rel: "noopener noreferrer" });
    link.dataset.part = button.dataset.part;
    if (href) link.href = href;
    link.ariaLabel = `Open ${name} on its own site`;
    link.append(...button.childNodes);
    link.querySelector(".play use").setAttribute("href", "#i-open");
    button.replaceWith(link);
    return;
  }
  button.ariaLabel = `Play ${name}`;
  button.disabled = !href;
  if (href) play(frame, video, name);
}

function tools(card, video, href, name, { copy: copied, save: saved, details }) {
  const [copy, open, save, more] = ["copy", "open", "save", "more"].map((part) => card.querySelector(`.${part}`));
  more.ariaLabel = `Details of ${name}`;
  more.onclick = () => details(video);
  if (!href) {
    for (const tool of [copy, open, save]) tool.remove();
    return;
  }
  copy.ariaLabel = `Copy link of ${name}`;
  copy.onclick = () => copied(copy, href);
  open.href = href;
  open.ariaLabel = `Open ${name} in a new tab`;
  if (video.kind !== "mp4") {
    save.remove();
    return;
  }
  save.href = href;
  save.download = `${slug(titleOf(video)) || "video"}-${String(video.id).slice(0, 8)}.mp4`;
  save.ariaLabel = `Download ${name}`;
  save.onclick = (event) => {
    event.preventDefault();
    saved(save);
  };
}

/** Shows all that is known of a video in the dialog. */
export function showDetails(video) {
  const dialog = $("details");
  $("details-title").textContent = nameOf(video);
  $("details-description").textContent = video.pin?.description?.trim() ?? "";
  $("details-metadata").replaceChildren(...metadata(video));
  dialog.showModal();
  dialog.scrollTop = 0;
}

function metadata(video) {
  const { id, url, codec, verified, captions, alternatives, duration_ms: ms, pin = {} } = video;
  const rows = [];
  const row = (term, ...content) => {
    const value = document.createElement("dd");
    value.dir = "auto"; // names are in any language
    content.forEach((part, index) => value.append(...(index ? [", ", part] : [part])));
    rows.push(element("dt", term), value);
  };
  if (pin.id || address(pin.url)) row("Pin", address(pin.url) ? linkTo(pin.url, "View pin") : String(pin.id));
  const who = creator(pin.creator);
  if (who.length) row("Creator", ...who);
  if (pin.board?.name) row("Board", linkTo(pin.board.url, pin.board.name));
  if (date(pin.created_at)) row("Published", date(pin.created_at));
  if (pin.reactions) row("Reactions", number(pin.reactions));
  if (pin.promoted) row("Promoted", "yes");
  if (address(pin.link)) row("Source", linkTo(pin.link, new URL(pin.link).hostname.replace(/^www\./, "")));
  const measures = [dimensions(video), length(ms), size(video.size_bytes)].filter(Boolean);
  if (measures.length) row("Video", measures.join(", "));
  row("Format", [kindOf(video), CODECS[codec] ?? codec, verified ? "verified" : "unverified"].filter(Boolean).join(", "));
  const spoken = Object.entries(captions ?? {});
  if (spoken.length) row("Captions", ...spoken.map(([locale, of]) => linkTo(of, locale)));
  const others = (alternatives ?? []).filter((other) => address(other.url));
  if (others.length) {
    row("Also as", ...others.map((other) =>
      linkTo(other.url, [kindOf(other), CODECS[other.codec], dimensions(other)].filter(Boolean).join(" "))));
  }
  if (address(url)) row("Link", linkTo(url, url));
  row("Id", element("code", id));
  return rows;
}
