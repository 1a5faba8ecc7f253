// All searches, over one connection: begun, followed, resumed after a drop or a reload, cancelled, closed.

import { Connection } from "./connection.js";
import { Search } from "./search.js";
import * as store from "./store.js";

const GONE = new Set(["unknown_session", "expired"]);
const TOKEN_REFUSED = 4501;
const KEY_ID = /^ps_[0-9a-f]{16}(?=_)/; // the part of a key that is no secret (docs/access.md)
const TOKEN = "token"; // which says no more than that it was one

/** What may be written down of a key: with which of them a search was begun. */
const nameOf = (key) => (key ? KEY_ID.exec(key)?.[0] ?? TOKEN : "");

export class Searches {
  #asking = new Set(); // not accepted yet
  #parting = new Set(); // ids of sessions that were closed and are still to be cancelled

  /**
   * `page` has changed(), listed(search), began(search), ended(search), refused(search, frame),
   * abandoned(search, text), gone(search, whether another key may show it), trouble(frame) and locked(reason).
   */
  constructor(page) {
    this.page = page;
    this.connection = new Connection(this);
    this.list = store.keptSearches().map((kept) => new Search(kept));
    this.shown = null;
  }

  /** Follows what was under way when the page was left. */
  restore() {
    for (const search of this.list) if (!search.over) search.followed = true;
    this.#connect();
  }

  begin(wanted) {
    const search = new Search(wanted);
    this.#asking.add(search);
    this.#connect();
    this.#ask(search);
  }

  /** Makes `search` the one that is shown, null none; what is not in memory is read from the log. */
  show(search) {
    this.shown = search;
    if (search && search.session && !search.followed) {
      search.followed = true;
      search.over = false;
      search.tell("running", "Resuming");
      this.#connect();
      this.#resume(search);
    }
    this.page.changed();
  }

  /** The search of a session, which may be new here. */
  recalled(named) {
    const known = this.list.find(({ session }) => session === named.session);
    if (known) return known;
    const kept = store.keptSearches().find(({ session }) => session === named.session);
    const search = new Search(kept ?? { ...named, by: nameOf(this.connection.key) });
    this.list.unshift(search);
    store.keep(search);
    return search;
  }

  cancel(search) {
    if (search.cancelling || search.over) return;
    search.cancelling = true;
    if (!search.session && !search.asked) {
      this.#abandon(search, null);
      return;
    }
    search.tell(search.phase, "Cancelling");
    if (search.session) this.connection.send("cancel_extraction", { session_id: search.session }, search.name);
    this.page.changed();
  }

  /** Takes it off the list; what still runs is cancelled. */
  close(search) {
    this.#forget(search);
    if (search.session && !search.over) {
      this.#parting.add(search.session);
      this.#connect();
      this.#part();
    }
    this.#rest();
    this.page.changed();
  }

  /** Comes back with another key, or with none; what the one before could not show is tried again. */
  unlock(key) {
    this.connection.stop();
    this.connection.key = key;
    for (const kept of store.keptSearches()) {
      if (this.list.some(({ session }) => session === kept.session)) continue;
      const search = new Search(kept);
      search.followed = !search.over;
      this.list.push(search);
    }
    this.#connect();
    this.page.changed();
  }

  // What the connection says

  opened() {
    for (const search of this.#asking) this.#ask(search);
    for (const search of this.list) if (search.followed && !search.over) this.#resume(search);
    this.#part();
  }

  received(frame) {
    const search = this.#meant(frame);
    if (!search) {
      if (frame.event === "error" && !frame.session_id) this.page.trouble(frame);
      if (frame.event === "completed" || frame.event === "error") this.#parting.delete(frame.session_id);
      this.#rest();
      return;
    }
    switch (frame.event) {
      case "accepted": return this.#accepted(search, frame);
      case "completed": return this.#completed(search, frame);
      case "error": return this.#failed(search, frame);
      case "video": search.video(frame); break;
      case "progress": search.progress(frame); break;
      default: return;
    }
    this.page.changed();
  }

  lost(wait) {
    const again = wait < 1500 ? "trying again" : `trying again in ${Math.round(wait / 1000)} s`;
    for (const search of [...this.#asking]) {
      if (search.asked) {
        this.#abandon(search, "The connection was lost before the search was accepted. Try again.");
      } else {
        search.tell("offline", `The server cannot be reached, ${again}`);
        if (!this.list.includes(search)) {
          this.#list(search);
          this.page.listed(search);
        }
      }
    }
    for (const search of this.#live()) search.tell("offline", `Connection lost, ${again}`);
    this.page.changed();
  }

  refused(code, reason) {
    if (code === TOKEN_REFUSED) {
      for (const search of this.#asking) search.asked = false; // the gateway turned it away before it read anything
      for (const search of [...this.#asking, ...this.#live()]) search.tell("offline", "Waiting for a key");
      this.page.locked(reason);
    } else {
      const text = reason || "The server closed the connection and does not want this client back";
      for (const search of [...this.#asking]) this.#abandon(search, text);
      for (const search of this.#live()) search.tell("failed", "Ended");
      this.page.trouble({ message: text });
    }
    this.page.changed();
  }

  // One by one

  #accepted(search, frame) {
    this.#asking.delete(search);
    search.accepted(frame);
    search.by = nameOf(this.connection.key);
    this.#list(search);
    store.keep(search);
    if (search.cancelling) this.connection.send("cancel_extraction", { session_id: search.session }, search.name);
    this.page.began(search);
  }

  #completed(search, frame) {
    search.completed(frame);
    store.keep(search);
    for (const held of this.list) if (held.held) this.#resume(held);
    this.#rest();
    this.page.ended(search);
  }

  #failed(search, frame) {
    const { code, retry_after_s: wait } = frame;
    if (this.#asking.has(search)) {
      this.#asking.delete(search);
      this.#forget(search);
      this.#rest();
      this.page.refused(search, frame);
    } else if (GONE.has(code)) {
      const elsewhere = search.by === TOKEN || search.by !== nameOf(this.connection.key);
      if (elsewhere) this.#unlist(search);
      else this.#forget(search);
      this.#rest();
      this.page.gone(search, elsewhere);
    } else if (code === "unknown_sequence") {
      search.sequence = 0; // the log is another one than before: what is there already is passed over by its id
      this.#resume(search);
    } else if (search.cancelling) {
      search.cancelling = false;
      this.page.trouble(frame);
    } else if (wait > 0) {
      search.tell("offline", frame.message);
      setTimeout(() => this.list.includes(search) && this.#resume(search), wait * 1000);
    } else {
      search.held = code === "too_many_sessions"; // until another one is over
      search.tell("offline", frame.message);
    }
    this.page.changed();
  }

  #ask(search) {
    if (search.asked || !this.connection.send("initiate_extraction", search.parameters, search.name)) return;
    search.asked = true;
    search.askedAt = performance.now();
  }

  #resume(search) {
    search.held = false;
    const { session, sequence, name, cancelling } = search;
    this.connection.send("resume_extraction", { session_id: session, after: sequence }, name);
    if (cancelling) this.connection.send("cancel_extraction", { session_id: session }, name);
  }

  #part() {
    for (const session of this.#parting) this.connection.send("cancel_extraction", { session_id: session });
  }

  #list(search) {
    if (!this.list.includes(search)) this.list.unshift(search);
  }

  #abandon(search, text) {
    this.#asking.delete(search);
    this.#forget(search);
    this.#rest();
    this.page.abandoned(search, text);
  }

  #forget(search) {
    this.#asking.delete(search);
    this.#unlist(search);
    if (search.session) store.forget(search);
  }

  #unlist(search) {
    this.list = this.list.filter((listed) => listed !== search);
    if (this.shown === search) this.shown = null;
  }

  #meant({ id, session_id: session }) {
    for (const search of this.#asking) if (search.name === id) return search;
    return session ? this.list.find((search) => search.session === session) : null;
  }

  #live() {
    return this.list.filter((search) => search.session && search.followed && !search.over);
  }

  #connect() {
    if (this.#asking.size || this.#parting.size || this.#live().length) this.connection.start();
  }

  /** A gateway keeps no connection for who has nothing under way. */
  #rest() {
    if (!this.#asking.size && !this.#parting.size && !this.#live().length) this.connection.stop();
  }
}
