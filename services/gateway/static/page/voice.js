// What is said beside the page: to screen readers, and for a moment to everybody.

import { $ } from "./element.js";

const EVERY_MS = 10_000; // a screen reader must get to the end of its sentence, and a reader to think
const TOAST_MS = 5000;

let announcedAt = -Infinity;
let toastEnds = null;

/** Says `text` to screen readers, unless something was said just before; what is `urgent` is said at once. */
export function announce(text, urgent = false) {
  if (!urgent && performance.now() - announcedAt < EVERY_MS) return;
  announcedAt = performance.now();
  $("live").textContent = text;
}

export function toast(text) {
  clearTimeout(toastEnds);
  $("toast").textContent = text;
  $("toast").hidden = false;
  toastEnds = setTimeout(() => { $("toast").hidden = true; }, TOAST_MS);
}

/** A trouble that stays until it is dismissed, or the next search. */
export function notify(text) {
  $("notice").hidden = false;
  $("notice-text").textContent = text;
}

export function hush() {
  $("notice").hidden = true;
}
