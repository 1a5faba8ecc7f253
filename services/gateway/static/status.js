// The page at /status: the whole as a gateway sees it, from one document a second.

import { showCharts } from "./status/charts.js";
import { Rows } from "./status/rows.js";
import { changes, showServices } from "./status/services.js";
import { Source } from "./status/source.js";
import { $, bytes, capital, count, element, NOTHING, say, span, spaced, time } from "./status/words.js";

const KEY = /^[\x21-\x7e]+$/; // what a header may hold
const FEW = 6; // changes that are read out at once

const queues = new Rows($("queues"), ["Queue", "Waiting", "In hand", "Delivered again", "Oldest"]);
const streams = new Rows($("streams"), ["Stream", "Messages", "Size", "Of its bound"]);
let asOf = null;

const source = new Source({
  document(found) {
    $("ask-key").hidden = true;
    $("whole").hidden = false;
    $("key-known").hidden = source.key === null;
    $("reduced").hidden = !found.reduced;
    judge(found);
    showSessions(found.sessions);
    showServices(found);
    showCharts(found);
    showQueues(found);
    speak(changes(found));
  },
  lost(why) {
    verdict("bad", why);
    say($("as-of"), asOf ? `What is below was so at ${time(asOf)}.` : "It is asked again.");
  },
  refused(given) {
    $("whole").hidden = true;
    $("ask-key").hidden = false;
    verdict("unknown", "A key is needed");
    say($("as-of"), "");
    wrongKey(given ? "This key was refused." : "");
    $("ask-key-text").focus();
  },
});

// In one sentence

function judge({ stale, broker, services, now, heard_at: heard, answered_by: by }) {
  asOf = stale ? heard : now;
  const lacking = services.filter(({ ready }) => !ready).map(({ service }) => service);
  const partly = services.some(({ replicas }) => replicas.some(({ state }) => state === "unready" || state === "lost"));
  if (stale) verdict("bad", "The gateway has lost the broker");
  else if (lacking.length) verdict("bad", `No replica is ready: ${lacking.join(", ")}`);
  else if (broker.trouble) verdict("fair", `${capital(broker.trouble)}`);
  else if (partly) verdict("fair", "Every service is up, not every replica");
  else verdict("good", "Every replica is ready");
  const at = heard ? time(heard) : NOTHING;
  say($("as-of"), stale ? `What is below was so at ${at}.` : `${time(now)}${by ? `, as ${by} sees it` : ""}`);
}

function verdict(tone, text) {
  const before = $("verdict").dataset.tone;
  $("verdict").dataset.tone = tone;
  if ($("verdict-text").textContent !== text && before !== "unknown") speak([`${text}.`]);
  say($("verdict-text"), text);
  document.title = `${text} · pinstream`;
}

function speak(sentences) {
  if (!sentences.length) return;
  const more = sentences.length - FEW;
  $("spoken").textContent = sentences.slice(0, FEW).join(" ") + (more > 0 ? ` And ${more} more.` : "");
}

// Figures

function showSessions({ running, states }) {
  const wanted = [["under way", running], ...Object.entries(states)];
  const list = $("sessions");
  while (list.children.length > wanted.length) list.lastElementChild.remove();
  wanted.forEach(([name, value], at) => {
    if (!list.children[at]) {
      const tile = element("div");
      tile.append(element("dt"), element("dd"));
      list.append(tile);
    }
    say(list.children[at].children[0], capital(spaced(name)));
    say(list.children[at].children[1], count(value));
  });
}

function showQueues({ queues: found, streams: held }) {
  queues.show(found.map((one) => ({
    key: one.consumer,
    tone: one.consumer.startsWith("suspects") && one.pending + one.in_flight ? "unready" : "ready",
    cells: [capital(spaced(one.consumer)), count(one.pending), count(one.in_flight), count(one.redelivered), span(one.oldest_s)],
  })));
  streams.show(held.map((one) => {
    const share = one.most_bytes ? one.bytes / one.most_bytes : null;
    return {
      key: one.stream,
      tone: share > 0.8 ? "unready" : "ready",
      cells: [one.stream, count(one.messages), bytes(one.bytes), share === null ? NOTHING : `${Math.round(share * 100)} %`],
    };
  }));
}

// The key

function wrongKey(text) {
  say($("ask-key-error"), text);
  if (text) $("ask-key-text").setAttribute("aria-invalid", "true");
  else $("ask-key-text").removeAttribute("aria-invalid");
}

$("ask-key").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("ask-key-text").value.trim();
  if (!KEY.test(text)) {
    wrongKey(text ? "That is no key." : "Give a key.");
    $("ask-key-text").focus();
    return;
  }
  wrongKey("");
  $("ask-key-text").value = "";
  source.key = text;
});

$("key-drop").addEventListener("click", () => {
  $("key-known").hidden = true;
  source.key = null;
});

source.ask();
