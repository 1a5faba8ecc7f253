// The moving charts: lines by uPlot, and beside each a table of what they say.

import uPlot from "../vendor/uPlot.esm.js";
import { $, count, element, hour, milliseconds, number, say } from "./words.js";

const SHOWN_S = 300;
const HEIGHT = 180;
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]]; // lines are told apart without their colours too
const WHOLE = [1, 10, 100, 1_000, 10_000, 100_000].flatMap((ten) => [ten, 2 * ten, 5 * ten]); // nothing waits by halves
const SPOKEN_EVERY_MS = 10_000;

const stage = (service, name, figure) => ({ services }) =>
  services.find((one) => one.service === service)?.stages.find((one) => one.name === name)?.[figure] ?? null;
const queue = (name) => ({ queues }) => {
  const found = queues.find(({ consumer }) => consumer === name);
  return found ? found.pending + found.in_flight : null;
};

// What is shown: a name of the field, and where in the document it is.
const STAGES = [
  ["Searches begun", "gateway", "sessions"],
  ["Pages read", "crawler", "pages"],
  ["Items resolved", "transformer", "transformer"],
  ["Items settled", "dedup", "dedup"],
];
const CHARTS = [
  {
    title: "Done a second",
    form: number,
    lines: STAGES.map(([label, service, name]) => ({ label, of: stage(service, name, "per_second") })),
  },
  {
    title: "Time each takes",
    form: milliseconds,
    logarithmic: true,
    lines: STAGES.map(([label, service, name]) => ({ label, of: stage(service, name, "latency_ms") })),
  },
  {
    title: "Waiting and in hand",
    form: count,
    lines: [["Searches", "crawler"], ["Raw media", "transformer"], ["Direct links", "dedup"]]
      .map(([label, name]) => ({ label, of: queue(name) })),
  },
  {
    title: "Sessions",
    form: count,
    lines: [
      { label: "Under way", of: ({ sessions }) => sessions.running },
      { label: "Queued", of: ({ sessions }) => sessions.states.queued ?? 0 },
      { label: "Waiting for the site", of: ({ sessions }) => sessions.states.waiting ?? 0 },
    ],
  },
];

class Chart {
  #spokenAt = -Infinity;

  constructor(spec, number_) {
    Object.assign(this, spec);
    this.data = [[], ...spec.lines.map(() => [])];
    const title = element("figcaption", spec.title);
    title.id = `chart-${number_}`;
    this.place = element("div", "", "plot");
    this.place.setAttribute("role", "img");
    this.figure = element("figure", "", "chart");
    this.figure.append(title, this.place, this.#table(title.id));
    $("charts").append(this.figure);
    new ResizeObserver(() => this.plot?.setSize({ width: this.place.clientWidth, height: HEIGHT })).observe(this.place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  #table(titled) {
    const table = element("table", "", "legend");
    table.setAttribute("aria-labelledby", titled);
    const top = element("tr");
    for (const label of ["Line", "Now", "Most"]) {
      const cell = element("th", label);
      cell.scope = "col";
      top.append(cell);
    }
    const head = element("thead");
    head.append(top);
    const body = element("tbody");
    this.cells = this.lines.map(({ label }, at) => {
      const [row, name, swatch, now, most] = [element("tr"), element("th"), element("span", "", `swatch line-${at}`), element("td"), element("td")];
      swatch.setAttribute("aria-hidden", "true");
      name.scope = "row";
      name.append(swatch, label);
      row.append(name, now, most);
      body.append(row);
      return { now, most };
    });
    table.append(head, body);
    return table;
  }

  /** Another moment. */
  add(at, document_) {
    this.data[0].push(at);
    this.lines.forEach(({ of }, index) => this.data[index + 1].push(of(document_)));
    while (this.data[0][0] < at - SHOWN_S) this.data.forEach((values) => values.shift());
    if (!this.plot) this.draw();
    else this.plot.setData(this.data, false);
    this.plot.setScale("x", { min: at - SHOWN_S, max: at });
    const words = this.lines.map(({ label }, index) => {
      const values = this.data[index + 1];
      const now = this.form(values.at(-1));
      say(this.cells[index].now, now);
      say(this.cells[index].most, this.form(values.reduce((most, value) => (value !== null && !(value < most) ? value : most), null)));
      return `${label} ${now}`;
    });
    if (performance.now() - this.#spokenAt > SPOKEN_EVERY_MS) {
      this.#spokenAt = performance.now();
      this.place.ariaLabel = `${this.title}: ${words.join(", ")}`;
    }
  }

  /** Anew, in the colours of the moment. */
  draw() {
    this.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: colour("--ink-2"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    this.plot = new uPlot({
      width: Math.max(200, this.place.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      padding: [10, 8, 0, 0],
      scales: { x: { time: true }, y: this.#scale() },
      axes: [
        { ...axis, space: 70, size: 30, values: (_, ticks) => ticks.map(hour) },
        {
          ...axis,
          size: 62,
          values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : this.form(tick))),
          ...(this.form === count && { incrs: WHOLE }),
          ...(this.logarithmic && { splits: (_, _axis, low, high) => decades(low, high), filter: (_, ticks) => ticks }),
        },
      ],
      series: [{}, ...this.lines.map(({ label }, at) => ({
        label,
        stroke: colour(`--line-${at}`),
        width: 2,
        dash: DASHES[at],
        points: { show: false },
        spanGaps: false,
      }))],
    }, this.data, this.place);
  }

  #scale() {
    if (this.logarithmic) return { distr: 3, range: (_, low, high) => logarithmic(low, high) };
    return { range: (_, _low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] };
  }
}

/** Whole decades around what there is. */
function logarithmic(low, high) {
  if (!(low > 0)) return [1, 1000];
  const [from, to] = [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high))];
  return [from, to > from ? to : from * 10];
}

function decades(low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high * 1.001; power += 1) found.push(10 ** power);
  return found;
}

let charts = [];

export function showCharts(document_) {
  if (!charts.length) charts = CHARTS.map((spec, at) => new Chart(spec, at));
  const at = Date.parse(document_.now) / 1000;
  for (const chart of charts) chart.add(at, document_);
}
