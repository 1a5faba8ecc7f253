// A table whose rows stay the same elements while what they say changes, so that nobody loses their place in it.

import { element, NOTHING, say } from "./words.js";

export class Rows {
  #rows = new Map();

  /** `labels` are those of the columns: where there is little room each cell says what it is. */
  constructor(body, labels) {
    this.body = body;
    this.labels = labels;
  }

  /** Shows `found`, in that order: each with a key, the texts of its cells, and perhaps a tone and a note below. */
  show(found) {
    const keys = new Set(found.map(({ key }) => key));
    for (const [key, row] of this.#rows) {
      if (!keys.has(key)) {
        row.remove();
        this.#rows.delete(key);
      }
    }
    found.forEach((one, at) => {
      const row = this.#rows.get(one.key) ?? this.#made(one.key);
      if (this.body.children[at] !== row) this.body.insertBefore(row, this.body.children[at] ?? null);
      if (one.tone && row.dataset.tone !== one.tone) row.dataset.tone = one.tone;
      one.cells.forEach((text, index) => {
        say(row.children[index].querySelector(".value"), text);
        row.children[index].toggleAttribute("data-empty", text === NOTHING);
      });
      say(row.querySelector(".note"), one.note ?? "");
    });
  }

  #made(key) {
    const row = element("tr");
    row.setAttribute("role", "row");
    this.labels.forEach((label, index) => {
      const cell = element(index ? "td" : "th");
      cell.setAttribute("role", index ? "cell" : "rowheader");
      if (!index) cell.scope = "row";
      if (index) cell.dataset.label = label;
      cell.append(element("span", "", "value"));
      if (!index) cell.append(element("span", "", "note"));
      row.append(cell);
    });
    this.#rows.set(key, row);
    return row;
  }
}
