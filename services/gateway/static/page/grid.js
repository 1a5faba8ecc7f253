// The grid: as many cards as are near the window, whatever there is to show, each at its own place.
// All cards are of one height, so that a place follows from a number; the elements stand in the order of the videos.

const GAP_PX = 18;
const LEAST_COLUMN_PX = 216;
const NARROW_PX = 560; // a phone has two columns
const NARROW_GAP_PX = 10;
const ALL = 200; // so few are all there, so that the browser's own search finds them
const MOST = 600; // however large the window is
const SCREENS = 2; // of cards that are ready above and below
const A_FRAME = 24; // cards that are made before the browser may paint

export class Grid {
  #cards = new Map(); // by the number of their video
  #found = [];
  #over = false;
  #drawn = -1; // how many there were when they were last drawn
  #shown = 0; // how many have had a card
  #height = 0;
  #drawing = 0;

  /** `cardOf(found, number)` makes a card; `dropped(card)` hears of one that is taken away. */
  constructor(feed, cardOf, dropped) {
    Object.assign(this, { feed, cardOf, dropped });
    new ResizeObserver(() => this.#resized()).observe(feed.parentElement);
    addEventListener("scroll", () => this.#soon(), { passive: true });
    feed.addEventListener("keydown", (event) => this.#pressed(event));
  }

  /** Shows `found`, a list that grows; `over` says that it does no longer. */
  show(found, over) {
    if (found !== this.#found) {
      for (const number of [...this.#cards.keys()]) this.#drop(number);
      this.#found = found;
      this.#shown = 0;
      this.#drawn = -1;
    }
    if (over !== this.#over || found.length !== this.#drawn) {
      this.#over = over;
      this.#soon();
    }
  }

  #soon() {
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #resized() {
    if (!this.#found.length) return;
    const top = this.feed.getBoundingClientRect().top;
    const first = this.columns && top < 0 ? Math.floor(-top / this.pitch) * this.columns : 0;
    if (!this.#measure()) return;
    for (const [number, card] of this.#cards) this.#place(card, number);
    if (first) scrollBy(0, this.feed.getBoundingClientRect().top + Math.floor(first / this.columns) * this.pitch);
    this.#draw();
  }

  /** Takes the measures; returns whether they have changed. */
  #measure() {
    const width = this.feed.clientWidth;
    const narrow = width <= NARROW_PX;
    const gap = narrow ? NARROW_GAP_PX : GAP_PX;
    const columns = narrow ? 2 : Math.max(1, Math.floor((width + gap) / (LEAST_COLUMN_PX + gap)));
    const column = (width - gap * (columns - 1)) / columns;
    this.feed.style.setProperty("--column", `${column}px`);
    const card = this.#cards.values().next().value;
    const pitch = card ? card.offsetHeight + gap : 0;
    const same = columns === this.columns && pitch === this.pitch && column + gap === this.step;
    Object.assign(this, { columns, pitch, step: column + gap, gap });
    return !same;
  }

  #draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
    const total = this.#found.length;
    this.#drawn = total;
    this.#number();
    this.feed.hidden = !total;
    if (!total) return;
    if (!this.#cards.size) this.#make(0);
    if (!this.pitch && this.#measure()) for (const [number, card] of this.#cards) this.#place(card, number);
    this.#resize(Math.ceil(total / this.columns) * this.pitch - this.gap);

    const { from, to, first, last } = this.#near(total);
    const held = this.#held();
    for (const number of [...this.#cards.keys()]) {
      if ((number < from || number >= to) && number !== held) this.#drop(number);
    }
    const missing = [];
    for (let number = from; number < to; number++) if (!this.#cards.has(number)) missing.push(number);
    const distance = (number) => (number < first ? first - number : number > last ? number - last : 0);
    missing.sort((one, other) => distance(one) - distance(other));
    for (const number of missing.slice(0, A_FRAME).sort((one, other) => one - other)) this.#make(number);
    const unfinished = missing.length > A_FRAME;
    this.feed.ariaBusy = String(unfinished);
    if (unfinished) this.#soon();
  }

  /** Which cards are to be there, [from, to), and which can be seen, from first to last. */
  #near(total) {
    const top = this.feed.getBoundingClientRect().top;
    const row = (y) => Math.floor((y - top) / this.pitch);
    const rows = Math.ceil(total / this.columns);
    const [upper, lower] = [Math.min(Math.max(row(0), 0), rows - 1), Math.min(Math.max(row(innerHeight), 0), rows - 1)];
    const screen = lower - upper + 1;
    const room = Math.floor((Math.floor(MOST / this.columns) - screen) / 2);
    const spare = total <= ALL ? rows : Math.max(1, Math.min(room, SCREENS * screen));
    return {
      from: Math.max(0, upper - spare) * this.columns,
      to: Math.min(total, (lower + spare + 1) * this.columns),
      first: upper * this.columns,
      last: (lower + 1) * this.columns - 1,
    };
  }

  /** The number of the card that has the focus: it stays, wherever it is, or the focus would be lost. */
  #held() {
    return numberOf(document.activeElement?.closest?.(".card"));
  }

  #make(number) {
    const card = this.cardOf(this.#found[number], number);
    card.dataset.number = number;
    card.ariaPosInSet = number + 1;
    card.ariaSetSize = this.#setSize;
    card.classList.toggle("new", number >= this.#shown && number < ALL);
    this.#shown = Math.max(this.#shown, number + 1);
    let next = number + 1;
    while (next <= number + MOST && !this.#cards.has(next)) next++;
    const held = this.#held();
    this.feed.insertBefore(card, this.#cards.get(next) ?? (held > number ? this.#cards.get(held) : null) ?? null);
    this.#cards.set(number, card);
    if (this.pitch) this.#place(card, number);
    return card;
  }

  #place(card, number) {
    const [row, column] = [Math.floor(number / this.columns), number % this.columns];
    card.style.translate = `${column * this.step}px ${row * this.pitch}px`;
  }

  #drop(number) {
    const card = this.#cards.get(number);
    this.#cards.delete(number);
    this.dropped(card);
    card.remove();
  }

  #resize(height) {
    if (height === this.#height) return;
    this.#height = height;
    this.feed.style.height = `${height}px`;
  }

  get #setSize() {
    return this.#over ? this.#found.length : -1; // -1: not known yet
  }

  #number() {
    const size = String(this.#setSize);
    for (const card of this.#cards.values()) if (card.ariaSetSize !== size) card.ariaSetSize = size;
  }

  // From card to card, as the pattern for feeds has it, and as one expects of a grid

  #pressed(event) {
    const here = numberOf(event.target.closest(".card"));
    if (here < 0 || event.target.closest("video") || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = this.#found.length - 1;
    const to = {
      PageDown: here + 1, PageUp: here - 1, ArrowRight: here + 1, ArrowLeft: here - 1,
      ArrowDown: here + this.columns, ArrowUp: here - this.columns, Home: 0, End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (to >= 0 && to <= last) this.#focus(to, event.target.dataset.part);
  }

  /** Moves the focus to a card, or to its part of that name. */
  #focus(number, part) {
    const card = this.#cards.get(number) ?? this.#make(number);
    const target = (part && card.querySelector(`[data-part="${part}"]`)) || card;
    target.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
    this.#draw();
  }
}

const numberOf = (card) => Number(card?.dataset.number ?? -1);
