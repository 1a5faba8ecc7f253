// The searches as a row of buttons, the newest first: each shows its search, or closes it.

import { $, copyOf, say } from "./element.js";

export class Tabs {
  #items = new Map(); // by search

  /** `onShow(search)` and `onClose(search)` hear what is wanted. */
  constructor(onShow, onClose) {
    Object.assign(this, { onShow, onClose });
  }

  draw(searches, shown) {
    $("searches").hidden = !searches.length;
    for (const [search, item] of this.#items) {
      if (searches.includes(search)) continue;
      item.remove();
      this.#items.delete(search);
    }
    const list = $("searches-list");
    searches.forEach((search, index) => {
      const item = this.#items.get(search) ?? this.#make(search);
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
      const tab = item.querySelector(".tab");
      item.dataset.phase = search.phase;
      say(item.querySelector(".tab-name"), search.query || "Search");
      say(item.querySelector(".tab-figure"), search.figures);
      const current = String(search === shown);
      if (tab.ariaCurrent === current) return;
      tab.ariaCurrent = current;
      if (search === shown) list.scrollTo({ left: item.offsetLeft - list.offsetLeft - 40 });
    });
  }

  #make(search) {
    const item = copyOf($("tab"));
    const [tab, close] = [item.querySelector(".tab"), item.querySelector(".tab-close")];
    close.ariaLabel = `Close ${search.query || "this search"}`;
    tab.onclick = () => this.onShow(search);
    // not tab.onkeydown: a false that it returned would keep every other key from the browser
    tab.addEventListener("keydown", ({ key }) => key === "Delete" && this.#close(search, item));
    close.onclick = () => this.#close(search, item);
    this.#items.set(search, item);
    return item;
  }

  /** Whoever closes one stands on its neighbour then, or on the topic. */
  #close(search, item) {
    const neighbour = item.nextElementSibling ?? item.previousElementSibling;
    (neighbour?.querySelector(".tab") ?? $("query")).focus();
    this.onClose(search);
  }
}
