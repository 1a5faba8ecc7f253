// The connection: one WebSocket for all searches, which comes back by itself after a drop (docs/websocket.md).

const SUBPROTOCOL = "pinstream.v1";
const BEARER = "pinstream.bearer."; // docs/access.md: a key never stands in an address
const BACK_OFF_MS = { first: 500, most: 15_000 };
const HEARTBEAT_MS = 20_000; // a connection that answers no ping within one more beat is taken for dead
const NEVER_AGAIN = 4500; // this close code and those above it say not to come back

export class Connection {
  #socket = null;
  #retry = null;
  #beat = null;
  #silent = false;
  #attempt = 0;
  #askedToWaitMs = 0;

  /** `listener` has opened(), received(frame), lost(milliseconds until the next try) and refused(code, reason). */
  constructor(listener) {
    this.listener = listener;
    this.key = null;
  }

  /** Opens it unless it is open, or about to be. */
  start() {
    if (this.#socket === null && this.#retry === null) this.#open();
  }

  /** Tries now instead of waiting. */
  hurry() {
    if (this.#retry !== null) this.#open();
  }

  /** Returns whether `operation` was sent; what answers it has `id`. */
  send(operation, parameters, id) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify({ operation, parameters, id }));
    return true;
  }

  stop() {
    clearTimeout(this.#retry);
    clearInterval(this.#beat);
    const socket = this.#socket;
    this.#socket = this.#retry = null;
    socket?.close();
  }

  #open() {
    clearTimeout(this.#retry);
    this.#retry = null;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const offered = this.key ? [SUBPROTOCOL, BEARER + this.key] : [SUBPROTOCOL];
    const socket = new WebSocket(`${scheme}://${location.host}/ws`, offered);
    this.#socket = socket;
    const mine = (handle) => (event) => this.#socket === socket && handle(event);
    socket.onopen = mine(() => {
      this.#silent = false;
      this.#beat = setInterval(() => this.#check(), HEARTBEAT_MS);
      this.listener.opened();
    });
    socket.onmessage = mine(({ data }) => this.#received(data));
    socket.onclose = mine(({ code, reason }) => {
      if (code >= NEVER_AGAIN && code < 5000) {
        this.stop();
        this.listener.refused(code, reason);
      } else {
        this.#lost();
      }
    });
  }

  #received(data) {
    this.#silent = false;
    let frame = null;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    const refusesAll = frame.event === "error" && frame.id === undefined && !frame.session_id;
    if (refusesAll && frame.retry_after_s > 0) this.#askedToWaitMs = frame.retry_after_s * 1000;
    else this.#attempt = 0;
    this.listener.received(frame);
  }

  #check() {
    if (this.#silent) {
      this.#socket.close();
      this.#lost();
    } else {
      this.#silent = true;
      this.send("ping");
    }
  }

  #lost() {
    clearInterval(this.#beat);
    this.#socket = null;
    const most = Math.min(BACK_OFF_MS.most, BACK_OFF_MS.first * 2 ** this.#attempt++);
    const jittered = most * (0.5 + Math.random() / 2); // a gateway that restarts must not meet all its clients at once
    const wait = Math.max(jittered, this.#askedToWaitMs);
    this.#askedToWaitMs = 0;
    this.#retry = setTimeout(() => this.#open(), wait);
    this.listener.lost(wait);
  }
}
