// Taking links and files along: to the clipboard, to the disk.

import { element } from "./element.js";
import { announce, toast } from "./voice.js";

const SAID_MS = 1600;

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
    held?.focus({ preventScroll: true });
    if (!done) throw new Error("the browser does not allow copying");
  }
}

/** Copies `text`, and lets `button` say so for a moment. */
export async function copy(button, text) {
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
  announce("Copied", true);
  setTimeout(() => {
    label.textContent = before;
    button.classList.remove("done");
    use?.setAttribute("href", "#i-link");
  }, SAID_MS);
}

export function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // a slow disk may still be reading
}

/** Saves a video as a file where its host lets pages read it; elsewhere browsers only open it. */
export async function save(link) {
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
