// The services: a heading and a table of replicas each.

import { Rows } from "./rows.js";
import { $, bytes, capital, count, element, milliseconds, NOTHING, number, say, since, span, spaced } from "./words.js";

const LABELS = ["Replica", "State", "In hand", "A second", "Each takes", "Memory", "Up for", "Version", "Last error"];
const SILENT_FROM_S = 2; // an answer a second is usual
const GONE = ["stopped", "lost"];

const boards = new Map();
let before = null; // the states of replicas, by id

export function showServices({ services, now }) {
  for (const service of services) {
    const board = boards.get(service.service) ?? makeBoard(service.service);
    const there = service.replicas.filter(({ state }) => !GONE.includes(state)).length;
    const lost = service.replicas.filter(({ state }) => state === "lost").length;
    const ready = service.ready ? `${service.ready} of ${there} ready` : there ? "none ready" : "none there";
    say(board.ready, lost ? `${ready}, ${lost} lost` : ready);
    board.section.dataset.tone = !service.ready ? "bad" : service.ready < there || lost ? "fair" : "good";
    board.rows.show(service.replicas.map((replica) => rowOf(replica, now)));
    board.empty.hidden = service.replicas.length > 0;
    board.table.hidden = !service.replicas.length;
  }
}

function rowOf(replica, now) {
  const work = replica.endpoints.filter(({ name }) => !name.startsWith("suspects"));
  const [first] = work;
  const facts = Object.entries(replica.facts).map(([name, value]) => `${spaced(name)} ${value}`);
  const error = replica.last_error;
  return {
    key: replica.id,
    tone: replica.state,
    note: [replica.host && replica.host !== replica.replica ? replica.host : "", ...facts].filter(Boolean).join(" · "),
    cells: [
      replica.replica,
      stateOf(replica),
      first ? (first.most ? `${count(first.busy)} of ${count(first.most)}` : count(first.busy)) : NOTHING,
      number(first?.per_second),
      milliseconds(first?.latency_ms),
      bytes(replica.memory_bytes),
      GONE.includes(replica.state) ? NOTHING : span(since(replica.started_at, now)),
      replica.version,
      error ? `${span(since(error.at, now))} ago: ${error.message}` : NOTHING,
    ],
  };
}

function stateOf({ state, checks, silent_s: silent }) {
  const failing = Object.entries(checks).filter(([, holds]) => !holds).map(([name]) => name);
  if (state === "unready") return `Unready: not ${failing.join(", ")}`;
  return capital(state) + (silent > SILENT_FROM_S ? ` for ${span(silent)}` : "");
}

function makeBoard(name) {
  const section = element("section", "", "service");
  const heading = element("h3", capital(name));
  const ready = element("span", "", "service-ready");
  const head = element("div", "", "service-head");
  heading.id = `service-${name}`;
  section.setAttribute("aria-labelledby", heading.id);
  const lamp = element("span", "", "lamp");
  lamp.setAttribute("aria-hidden", "true");
  head.append(lamp, heading, ready);

  const table = element("table");
  table.setAttribute("role", "table");
  table.setAttribute("aria-labelledby", heading.id);
  const top = element("thead");
  const labels = element("tr");
  top.setAttribute("role", "rowgroup");
  labels.setAttribute("role", "row");
  for (const label of LABELS) {
    const cell = element("th", label);
    cell.scope = "col";
    cell.setAttribute("role", "columnheader");
    labels.append(cell);
  }
  top.append(labels);
  const body = element("tbody");
  body.setAttribute("role", "rowgroup");
  table.append(top, body);
  const empty = element("p", "No replica has been heard of.", "quiet");
  const holder = element("div", "", "board");
  holder.append(table, empty);
  section.append(head, holder);
  $("service-list").append(section);
  const board = { section, ready, rows: new Rows(body, LABELS), table, empty };
  boards.set(name, board);
  return board;
}

/** What has changed since the last time, in sentences to be read out. */
export function changes({ services }) {
  const now = new Map(services.flatMap(({ replicas }) => replicas.map(({ id, replica, state }) => [id, { replica, state }])));
  const told = before === null ? [] : [...now]
    .filter(([id, { state }]) => state !== before.get(id)?.state)
    .map(([, { replica, state }]) => `${replica} is ${state}.`);
  before = now;
  return told;
}
