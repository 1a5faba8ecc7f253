// The key, where the gateway asks for one. It goes as a subprotocol (docs/access.md), never into an address.

import { $ } from "./element.js";
import { keepKey, keptKey } from "./store.js";
import { sentence } from "./words.js";

const SENDABLE = /^[\w.~+-]+$/; // what a subprotocol may hold of a key or a JWT

export class Key {
  #given = keptKey();

  /** `onChange(key)` hears of another one, or of null. */
  constructor(onChange) {
    this.onChange = onChange;
    $("key").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#take($("key-text").value.trim());
    });
    $("key-forget").addEventListener("click", () => this.#change(null));
    this.#draw();
  }

  /** The one that is known, or null. */
  get text() {
    return SENDABLE.test(this.#given ?? "") ? this.#given : null;
  }

  /** Asks for one; `reason` is what the gateway said of the one that it was given. */
  ask(reason) {
    const field = $("key-text");
    const wrong = this.#given !== null;
    $("key").hidden = false;
    $("key-error").textContent = wrong ? `This key was refused. ${sentence(reason)}` : "";
    field.toggleAttribute("aria-invalid", wrong);
    if (wrong) field.setAttribute("aria-invalid", "true");
    field.focus();
    field.select();
  }

  #take(text) {
    if (!SENDABLE.test(text)) {
      $("key-error").textContent = text ? "A key has letters, digits and . _ - only." : "Give a key.";
      $("key-text").setAttribute("aria-invalid", "true");
      $("key-text").focus();
      return;
    }
    this.#change(text);
  }

  #change(text) {
    this.#given = text;
    keepKey(text);
    $("key").hidden = true;
    $("key-text").value = $("key-error").textContent = "";
    $("key-text").removeAttribute("aria-invalid");
    this.#draw();
    if (text === null) $("start").focus({ preventScroll: true });
    this.onChange(this.text);
  }

  #draw() {
    $("key-kept").hidden = this.#given === null;
  }
}
