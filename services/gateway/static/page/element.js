// Elements: what comes in a frame reaches the document by textContent and checked addresses alone.

import { address } from "./address.js";

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

export function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

/** A picture of the sprite in index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** A link where `url` may be followed, else plain text. */
export function linkTo(url, text) {
  const href = address(url);
  if (!href) return document.createTextNode(text);
  return Object.assign(element("a", text), { href, target: "_blank", rel: "noopener noreferrer" });
}

/** The first element of a template, anew. */
export const copyOf = (template) => template.content.firstElementChild.cloneNode(true);

/** Sets the text of `node` unless it says so already: a browser lays out anew for every write. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
