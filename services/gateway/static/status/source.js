// Where the figures come from: /v1/status, once a second while somebody looks.

const EVERY_MS = 1_000;
const BACK_OFF_MS = { first: 1_000, most: 10_000 };
const TIMEOUT_MS = 10_000;
const KEY = "pinstream.key"; // in this tab, shared with the page at /

export class Source {
  #failures = 0;
  #timer = null;
  #asking = null;

  /** `on` has `document(d)`, `lost(why)` and `refused(had a key)`. */
  constructor(on) {
    this.on = on;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#stop() : this.ask()));
  }

  get key() {
    try {
      return sessionStorage.getItem(KEY);
    } catch {
      return this.held ?? null; // the browser keeps nothing for this page
    }
  }

  set key(text) {
    this.held = text;
    try {
      if (text === null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, text);
    } catch { /* it is held until the page is left */ }
    this.ask();
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    this.#asking = null;
  }

  /** Now, and again and again from then on. */
  async ask() {
    this.#stop();
    const asking = new AbortController();
    this.#asking = asking;
    const overdue = setTimeout(() => asking.abort(), TIMEOUT_MS);
    let wait = EVERY_MS;
    try {
      wait = await this.#once(asking.signal);
    } catch {
      wait = this.#lost("The gateway does not answer");
    } finally {
      clearTimeout(overdue);
    }
    if (this.#asking === asking && wait !== null && !document.hidden) this.#timer = setTimeout(() => this.ask(), wait);
  }

  async #once(signal) {
    const { key } = this;
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const answer = await fetch("/v1/status", { headers, signal, cache: "no-store", credentials: "omit" });
    if (answer.ok) {
      const found = await answer.json();
      this.#failures = 0;
      this.on.document(found);
      return EVERY_MS;
    }
    if (answer.status === 401) {
      this.on.refused(key !== null);
      return null;
    }
    const asked = Number(answer.headers.get("Retry-After")) * 1000;
    return Math.max(asked || 0, this.#lost(answer.status === 429 ? "The gateway is asked too often" : "The gateway does not tell"));
  }

  #lost(why) {
    if (!document.hidden) this.on.lost(why);
    return Math.min(BACK_OFF_MS.most, BACK_OFF_MS.first * 2 ** this.#failures++);
  }
}
