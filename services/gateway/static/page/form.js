// The form: what is to be searched, and what is wrong with it, by its field.

import { $ } from "./element.js";
import { FILTER_FIELDS, FILTER_NAMES, readFilters, setUpFilters } from "./filters.js";
import { hush } from "./voice.js";
import { seconds, sentence } from "./words.js";

const FIELDS = {
  "parameters.search_query": "query",
  "parameters.url": "query",
  "parameters.result_limit": "limit",
  ...FILTER_FIELDS,
};
const NAMES = { search_query: "the topic", url: "the address", result_limit: "the limit", ...FILTER_NAMES };
const NAMED = new RegExp(`\\b(?:parameters\\.)?(?:filters\\.)?(${Object.keys(NAMES).join("|")})\\b`, "g");

export class Form {
  /** `onSearch(wanted)` is asked for a search, as Search takes it. */
  constructor(onSearch) {
    this.onSearch = onSearch;
    const form = $("search");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    form.addEventListener("input", clearFaults);
    for (const chip of document.querySelectorAll("[data-query]")) {
      chip.addEventListener("click", () => {
        $("query").value = chip.dataset.query;
        form.requestSubmit();
      });
    }
    setUpFilters();
  }

  fill({ query, limit }) {
    $("query").value = query;
    if (limit) $("limit").value = limit;
  }

  /** The search is under way or refused: another one may be begun. */
  free() {
    $("start").ariaDisabled = null;
  }

  /** Shows an error frame by the field that it names; returns the sentence where it names none. */
  refuse({ message, field, retry_after_s: wait }) {
    const later = wait ? ` Try again in ${seconds(wait)}.` : "";
    const text = sentence(message.replace(NAMED, (_, name) => NAMES[name])) + later;
    if (!FIELDS[field]) return text;
    fault(FIELDS[field], text);
    return null;
  }

  #submit() {
    if ($("start").ariaDisabled === "true") return;
    clearFaults();
    const limit = Number($("limit").value);
    if ($("limit").value.trim() === "" || !Number.isSafeInteger(limit)) {
      fault("limit", "The limit must be a whole number.");
      return;
    }
    const { fault: wrong, ...wanted } = readFilters();
    if (wrong) {
      fault(...wrong);
      return;
    }
    $("start").ariaDisabled = "true"; // disabled would drop the focus
    this.onSearch({ query: $("query").value.trim(), limit, ...wanted });
  }
}

function fault(id, text) {
  const field = $(id);
  const folded = field.closest("details");
  if (folded) folded.open = true;
  $(`${id}-error`).textContent = text;
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

function clearFaults() {
  for (const id of new Set(Object.values(FIELDS))) {
    $(`${id}-error`).textContent = "";
    $(id).removeAttribute("aria-invalid");
  }
  hush();
}
