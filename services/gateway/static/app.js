// The page of the gateway: searches over the WebSocket protocol v1 (docs/websocket.md), their videos as a grid.
// docs/page.md says what each module is for.

import { cardOf, showDetails } from "./page/card.js";
import { $ } from "./page/element.js";
import { Form } from "./page/form.js";
import { Grid } from "./page/grid.js";
import { Key } from "./page/key.js";
import { links, listOf } from "./page/lists.js";
import { drawPanel } from "./page/panel.js";
import { Player } from "./page/player.js";
import { Searches } from "./page/searches.js";
import { hashOf, searchIn } from "./page/store.js";
import { Tabs } from "./page/tabs.js";
import { copy, save, saveAs } from "./page/taking.js";
import { announce, hush, notify } from "./page/voice.js";
import { plural, sentence } from "./page/words.js";

const HIDDEN_MS = 500; // how often the title is written while nobody sees the page

const player = new Player();
const cards = {
  play: (frame, video, name) => player.serve(frame, video, name),
  copy,
  save,
  details: showDetails,
};
const grid = new Grid($("grid"), ({ video }) => cardOf(video, cards), (card) => player.stop(card));
const searches = new Searches({ changed, listed, began, ended, refused, abandoned, gone, trouble, locked });
const tabs = new Tabs(show, close);
const form = new Form((wanted) => searches.begin(wanted));
const key = new Key((text) => searches.unlock(text));

// What has become of a search

let undraw = null; // takes back what is to be drawn

/** Draws what there is before the next frame, however much has come until then. */
function changed() {
  if (undraw) return;
  const [later, take] = document.hidden
    ? [setTimeout(draw, HIDDEN_MS), clearTimeout] : [requestAnimationFrame(draw), cancelAnimationFrame];
  undraw = () => take(later);
}

function draw() {
  undraw = null;
  const { shown, list } = searches;
  tabs.draw(list, shown);
  drawPanel(shown);
  const found = shown?.found ?? [];
  grid.show(found, shown?.over ?? true);
  $("welcome").hidden = shown !== null;
  $("ghosts").hidden = shown === null || shown.over || found.length > 0;
  const empty = shown?.over && !found.length && !shown.failure;
  $("empty").hidden = !empty;
  if (empty) $("empty").textContent = shown.emptiness;
  document.title = shown ? `${shown.figures} ${shown.query} · pinstream` : "pinstream";
  if (shown && !shown.over && found.length) announce(`${plural(found.length, "video")} found`);
}

/** It waits for the server. */
function listed(search) {
  form.free();
  show(search);
}

function began(search) {
  listed(search);
  announce(`Searching for ${search.query}`, true);
}

function ended(search) {
  if (search === searches.shown && search.failure) notify(search.failure);
  const of = search === searches.shown ? "" : `${search.query}: `;
  announce(`${of}${search.state}. ${plural(search.found.length, "video")}.`, true);
  if (document.activeElement === $("cancel")) $("start").focus({ preventScroll: true }); // a field would open a phone's keyboard
  changed();
}

function refused(search, frame) {
  form.free();
  const text = form.refuse(frame);
  if (text) notify(text);
  changed();
}

function abandoned(search, text) {
  form.free();
  if (text) notify(sentence(text));
  changed();
}

function gone(search, elsewhere) {
  notify(elsewhere ? "A search of another key is not listed until that key is used again."
    : "This search is no longer kept. Start it again.");
  if (searchIn(location.hash)?.session === search.session) history.replaceState(null, "", location.pathname);
  changed();
}

function trouble(frame) {
  form.free();
  notify(form.refuse({ ...frame, field: null }));
}

function locked(reason) {
  form.free();
  key.ask(reason);
}

// What the user does

function show(search) {
  const another = search !== searches.shown;
  if (another) {
    player.stop();
    hush();
    scrollTo(0, 0);
  }
  searches.show(search);
  if (search?.failure) notify(search.failure);
  const hash = search?.session ? hashOf(search) : "";
  if (location.hash !== hash) history.pushState(null, "", hash || location.pathname);
}

function close(search) {
  const { shown } = searches;
  searches.close(search);
  if (search === shown) show(searches.list[0] ?? null);
}

/** Shows the session that the address bar names. */
function recall() {
  const named = searchIn(location.hash);
  const search = named && searches.recalled(named);
  if (search === searches.shown) return;
  if (search) form.fill(search);
  show(search);
}

$("cancel").addEventListener("click", () => searches.cancel(searches.shown));
$("copy-all").addEventListener("click", () => copy($("copy-all"), links(searches.shown.found).join("\n")));
for (const button of document.querySelectorAll("[data-list]")) {
  button.addEventListener("click", () => {
    const { name, blob } = listOf(searches.shown.query, searches.shown.found, button.dataset.list);
    saveAs(blob, name);
  });
}
$("notice-close").addEventListener("click", () => {
  hush();
  $("start").focus({ preventScroll: true });
});
$("details-close").addEventListener("click", () => $("details").close());
$("details").addEventListener("click", ({ target }) => target === $("details") && $("details").close());
addEventListener("hashchange", recall);
addEventListener("online", () => searches.connection.hurry());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) searches.connection.hurry();
  undraw?.();
  undraw = null;
  changed();
});

searches.connection.key = key.text;
searches.restore();
if (searchIn(location.hash)) recall();
else {
  changed();
  $("query").focus();
}
