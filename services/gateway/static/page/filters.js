// The filters of a search: read from the form, said in words, named by the gateway where they are wrong (docs/messages.md).

import { $ } from "./element.js";
import { date } from "./words.js";

const PATH = "parameters.filters.";
const LAST_SCOPE = "pinstream.scope";

/** Parameter, id of its field, what it is called in a sentence. */
const NUMBERS = [
  ["min_duration_s", "min-duration", "The shortest duration"],
  ["max_duration_s", "max-duration", "The longest duration"],
  ["min_height", "min-height", "The least height"],
];
const FLAGS = [
  ["with_captions", "with-captions"],
  ["exclude_promoted", "exclude-promoted"],
];

/** Of the gateway's names for fields, the ids of those here. */
export const FILTER_FIELDS = {
  ...Object.fromEntries(NUMBERS.map(([name, id]) => [PATH + name, id])),
  ...Object.fromEntries(FLAGS.map(([name, id]) => [PATH + name, id])),
  [`${PATH}orientation`]: "orientation",
  [`${PATH}created_after`]: "created-after",
  "parameters.scope": "scope",
  "parameters.new_only": "scope",
};

/** What those are called in the gateway's sentences, and here. */
export const FILTER_NAMES = {
  ...Object.fromEntries(NUMBERS.map(([name, , words]) => [name, words.replace(/^The/, "the")])),
  created_after: "the date",
  scope: "the name",
};

/** {filters, scope} as initiate_extraction takes them, or {fault: [id, sentence]}. */
export function readFilters() {
  const filters = {};
  for (const [name, id, words] of NUMBERS) {
    const field = $(id);
    if (field.validity.badInput) return { fault: [id, `${words} must be a number.`] };
    if (field.value.trim() === "") continue;
    filters[name] = Number(field.value);
    if (name === "min_height" && !Number.isInteger(filters[name])) return { fault: [id, `${words} must be a whole number.`] };
  }
  if ($("orientation").value) filters.orientation = $("orientation").value;
  if ($("created-after").validity.badInput) return { fault: ["created-after", "The date is not complete."] };
  if ($("created-after").value) filters.created_after = $("created-after").value;
  for (const [name, id] of FLAGS) if ($(id).checked) filters[name] = true;
  if (!$("new-only").checked) return { filters, scope: null };
  const scope = $("scope").value.trim();
  if (!scope) return { fault: ["scope", "Give a name: what was given under it before is not given again."] };
  return { filters, scope };
}

/** A few words for each filter that is set. */
export function filterWords({ filters, scope }) {
  const { min_duration_s: least, max_duration_s: most, min_height: height, orientation, created_after: after } = filters;
  return [
    least !== undefined && `${least} s or longer`,
    most !== undefined && `${most} s or shorter`,
    height !== undefined && `${height} px or higher`,
    orientation,
    after !== undefined && `since ${date(after) || after}`,
    filters.with_captions && "with captions",
    filters.exclude_promoted && "not promoted",
    scope !== null && `new to ${scope}`,
  ].filter(Boolean).map(String);
}

/** Makes the fields work: how many are set is said where they are folded away. */
export function setUpFilters() {
  const fields = $("filters");
  const count = () => {
    const set = [...fields.querySelectorAll("input, select")].filter(isSet).length;
    $("filters-count").textContent = set ? `${set} set` : "";
    $("scope").disabled = !$("new-only").checked;
  };
  fields.addEventListener("input", count);
  $("filters-reset").addEventListener("click", () => {
    for (const field of fields.querySelectorAll("input, select")) {
      if (field.type === "checkbox") field.checked = false;
      else if (field.id !== "scope") field.value = "";
    }
    fields.dispatchEvent(new Event("input", { bubbles: true }));
  });
  try {
    $("scope").value = localStorage.getItem(LAST_SCOPE) ?? "";
  } catch { // not allowed
  }
  $("scope").addEventListener("change", () => {
    try {
      localStorage.setItem(LAST_SCOPE, $("scope").value.trim());
    } catch { // not allowed
    }
  });
  count();
}

const isSet = ({ id, type, checked, value }) => (type === "checkbox" ? checked : id !== "scope" && value !== "");
