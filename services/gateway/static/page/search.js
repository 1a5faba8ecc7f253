// One search: what was asked, and what has come of it. It knows nothing of the page that shows it.

import { isAddress } from "./address.js";
import { FAILURES, plural, seconds, sentence, time } from "./words.js";

let made = 0;

export class Search {
  /** `parameters` are those of initiate_extraction, as far as they are known; without a session it is yet to begin. */
  constructor({ session = null, query = "", limit = null, filters = {}, scope = null, over = false, count = 0, by = "" }) {
    Object.assign(this, { session, query, limit, filters, scope, over, before: count, by });
    this.name = `search ${++made}`; // of its operations, until it has a session
    this.found = []; // {sequence, video}, in the order of the log
    this.ids = new Set();
    this.sequence = 0; // to resume after
    this.repeats = this.unavailable = this.seen = this.filtered = 0;
    this.asked = this.followed = this.cancelling = false;
    this.askedAt = this.firstS = null;
    this.reason = this.message = null;
    this.tell(over ? "done" : "running", session ? "Resuming" : "Connecting");
  }

  /** How many videos there are, those of before a reload too as long as they have not been read again. */
  get count() {
    return this.followed ? this.found.length : this.before;
  }

  get parameters() {
    const { query, limit, filters, scope } = this;
    return {
      ...(isAddress(query) ? { url: query } : { search_query: query }),
      result_limit: limit,
      ...(Object.keys(filters).length && { filters }),
      ...(scope !== null && { new_only: true, scope }),
    };
  }

  /** Such as 12/50. */
  get figures() {
    return this.limit ? `${this.count}/${this.limit}` : String(this.count);
  }

  get videos() {
    return this.found.map(({ video }) => video);
  }

  /** `phase` is running, offline, done or failed. */
  tell(phase, state) {
    this.phase = phase;
    this.state = state;
  }

  accepted({ session_id: session, sequence }) {
    this.session = session;
    this.sequence = sequence;
    this.followed = true;
    this.tell("running", "Waiting for a crawler");
  }

  video({ sequence, video }) {
    this.sequence = Math.max(this.sequence, sequence);
    if (!video?.id || this.ids.has(video.id)) return;
    this.ids.add(video.id);
    this.found.push({ sequence, video });
    if (this.found.length === 1 && this.askedAt !== null) this.firstS = (performance.now() - this.askedAt) / 1000;
    if (this.phase !== "running") this.tell("running", "Crawling");
  }

  progress(frame) {
    this.#count(frame);
    this.tell("running", this.cancelling ? "Cancelling" : stateLine(frame));
  }

  completed({ sequence, reason, summary, message = null }) {
    this.over = true;
    this.cancelling = false;
    this.sequence = Math.max(this.sequence, sequence);
    this.#count(summary);
    this.firstS = summary.first_video_s ?? this.firstS;
    Object.assign(this, { reason, message });
    const took = summary.elapsed_s == null ? "" : ` in ${seconds(summary.elapsed_s)}`;
    const ending = {
      limit: `Done${took}, the limit is reached`,
      exhausted: `Done${took}, the site has no more`,
      cancelled: "Cancelled",
      deadline: `Stopped at the time limit${took}`,
    }[reason];
    this.tell(ending ? "done" : "failed", ending ?? `Ended: ${String(reason).replaceAll("_", " ")}`);
  }

  /** What went wrong, at the end of a search that failed. */
  get failure() {
    if (!this.over || this.phase !== "failed") return null;
    return this.message ? sentence(this.message) : FAILURES[this.reason] ?? FAILURES.failed;
  }

  /** What to say where nothing was found. */
  get emptiness() {
    if (this.message) return sentence(this.message);
    if (this.reason !== "exhausted") return "No video was found.";
    if (isAddress(this.query)) return "There are no videos at this address.";
    if (this.seen) return `Nothing is new: ${plural(this.seen, "video")} had been given to ${this.scope ?? "this name"} before.`;
    if (this.filtered) return `None passed the filters, ${plural(this.filtered, "video")} did not. Widen them and search again.`;
    return "The site has no videos on this topic. Try other words.";
  }

  #count({ repeats = 0, unavailable = 0, seen = 0, filtered = 0 }) {
    Object.assign(this, { repeats, unavailable, seen, filtered });
  }
}

function stateLine({ state, pages, queued, waiting_for: what, waiting_until: until }) {
  const read = pages ? `, ${plural(pages, "page")} read` : "";
  switch (state) {
    case "queued": return `Waiting for a crawler${queued ? `, after ${plural(queued, "other search", "other searches")}` : ""}`;
    case "starting": return "Starting the browser";
    case "crawling": return `Crawling${read}`;
    case "waiting": return `Waiting${what ? ` for ${what}` : ""}${until ? ` until ${time(until)}` : ""}${read}`;
    case "finishing": return "Finishing: the last videos are being checked";
    default: return String(state);
  }
}
