// The panel: how far the search that is shown has come.

import { $, element, say } from "./element.js";
import { filterWords } from "./filters.js";
import { number, seconds } from "./words.js";

/** Draws `search`, or hides the panel where it is null. */
export function drawPanel(search) {
  const panel = $("status");
  panel.hidden = search === null;
  if (!search) return;
  panel.dataset.phase = search.phase;
  say($("topic"), search.query || "Search");
  say($("state"), search.state);
  filters(search);
  const found = search.found.length;
  const bar = $("bar");
  bar.max = search.limit || Math.max(found, 1);
  bar.value = found;
  figure("found", found);
  say($("of"), search.limit ? ` / ${number(search.limit)}` : "");
  figure("repeats", search.repeats);
  figure("unavailable", search.unavailable);
  figure("filtered", search.filtered, search.filtered > 0 || Object.keys(search.filters).length > 0);
  figure("seen", search.seen, search.seen > 0 || search.scope !== null);
  say($("first"), search.firstS === null ? "–" : seconds(search.firstS));
  $("cancel").hidden = search.over;
  $("cancel").ariaDisabled = search.cancelling ? "true" : null;
  for (const button of panel.querySelectorAll(".lists button")) button.disabled = !found;
}

function figure(id, value, shown = true) {
  say($(id), number(value));
  $(id).parentElement.hidden = !shown;
}

function filters(search) {
  const list = $("topic-filters");
  const words = filterWords(search);
  if (list.dataset.of === search.name && list.childElementCount === words.length) return;
  list.dataset.of = search.name;
  list.hidden = !words.length;
  list.replaceChildren(...words.map((text) => element("li", text)));
}
