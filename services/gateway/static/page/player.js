// The player: one video at a time. A preview is silent and ends with the hover; a click or a tap plays it with sound.
// HLS is played by hls.js where the browser has Media Source Extensions, by the browser itself elsewhere.

import { element, linkTo } from "./element.js";
import { address } from "./address.js";

const DWELL_MS = 180; // a pointer that only passes by starts nothing
const SEEN = 0.25; // a video of which less is in the window pauses
const NATIVE_HLS = "application/vnd.apple.mpegurl";
// No worker: the page's policy allows none.
const HLS_OPTIONS = { enableWorker: false, capLevelToPlayerSize: true, maxBufferLength: 12, backBufferLength: 12 };
const MOST_CAPTIONS = 8;

export class Player {
  #now = null; // {frame, video, poster, element, hls, loud}
  #dwelling = null;
  #sight = new IntersectionObserver((entries) => entries.at(-1).isIntersecting || this.#outOfSight(), { threshold: SEEN });

  constructor() {
    document.addEventListener("visibilitychange", () => document.hidden && this.#outOfSight());
  }

  /** Lets `frame` play `video`, whose poster is a button in it; `name` is what it is called. */
  serve(frame, video, name) {
    const poster = frame.querySelector(".poster");
    const served = { frame, video, poster, name };
    poster.addEventListener("click", () => this.#play(served));
    frame.addEventListener("pointerenter", ({ pointerType }) => pointerType === "mouse" && this.#dwell(served));
    frame.addEventListener("pointerleave", () => this.#left(frame));
    frame.addEventListener("keydown", (event) => event.key === "Escape" && this.#escaped(event, frame));
  }

  /** Ends what plays within `part` of the page, if anything does. */
  stop(part = document) {
    if (this.#now && part.contains(this.#now.frame)) this.#end();
  }

  #dwell(served) {
    clearTimeout(this.#dwelling);
    const unwanted = matchMedia("(prefers-reduced-motion: reduce)").matches || navigator.connection?.saveData;
    if (unwanted || served.broken || this.#now?.loud) return;
    this.#dwelling = setTimeout(() => this.#start(served, false), DWELL_MS);
  }

  #left(frame) {
    clearTimeout(this.#dwelling);
    if (this.#now?.frame === frame && !this.#now.loud) this.#end();
  }

  #play(served) {
    clearTimeout(this.#dwelling);
    if (this.#now?.frame !== served.frame) this.#start(served, true);
    else this.#louder();
  }

  #start(served, loud) {
    this.#end();
    const { frame, poster, video, name } = served;
    const player = document.createElement("video");
    Object.assign(player, { muted: !loud, loop: !loud, playsInline: true, preload: "auto", ariaLabel: name });
    const now = { ...served, served, element: player, hls: null, loud: false };
    this.#now = now;
    player.addEventListener("error", () => this.#now === now && this.#fail("This could not be played here. "));
    player.addEventListener("playing", () => frame.classList.add("moving"));
    say(frame, null);
    frame.prepend(player);
    this.#sight.observe(frame);
    if (loud) this.#louder();
    else player.tabIndex = -1;
    const href = address(video.url);
    if (video.kind === "hls") {
      this.#stream(now, href);
    } else {
      player.src = href;
      run(player);
    }
  }

  async #stream(now, href) {
    let Hls = null;
    try {
      ({ default: Hls } = await import("../vendor/hls.min.mjs"));
    } catch { // then it is for the browser
    }
    if (this.#now !== now) return;
    if (Hls?.isSupported()) {
      now.element.disableRemotePlayback = true; // Safari's ManagedMediaSource asks for it
      now.hls = new Hls(HLS_OPTIONS);
      now.hls.on(Hls.Events.ERROR, (_, { fatal }) => {
        if (fatal && this.#now === now) this.#fail("This stream could not be played here. ");
      });
      now.hls.loadSource(href);
      now.hls.attachMedia(now.element);
      run(now.element);
    } else if (now.element.canPlayType(NATIVE_HLS)) {
      now.element.src = href;
      run(now.element);
    } else {
      this.#fail("This browser does not play HLS streams. Safari and players such as mpv or VLC do: ");
    }
  }

  /** From a preview to a player with sound and controls, or that from the beginning. */
  #louder() {
    const { frame, element: player, poster, video, hls } = this.#now;
    this.#now.loud = true;
    Object.assign(player, { muted: false, loop: false, controls: true, tabIndex: 0, poster: poster.querySelector("img").src });
    if (hls) hls.capLevelToPlayerSize = false;
    const held = poster === document.activeElement;
    poster.hidden = true;
    frame.classList.add("playing");
    if (held || document.activeElement === document.body) player.focus({ preventScroll: true });
    captions(player, video.captions);
    if (player.currentSrc) run(player);
  }

  #outOfSight() {
    if (!this.#now) return;
    if (this.#now.loud) this.#now.element.pause();
    else this.#end();
  }

  #escaped(event, frame) {
    if (this.#now?.frame !== frame || document.fullscreenElement) return;
    event.preventDefault();
    this.#end();
  }

  #fail(text) {
    const { frame, served, loud, video } = this.#now;
    served.broken = true; // no further previews
    this.#end();
    if (loud) say(frame, text, video.url);
  }

  /** Back to the poster; nothing is loaded any more. */
  #end() {
    clearTimeout(this.#dwelling);
    if (!this.#now) return;
    const { frame, element: player, poster, hls } = this.#now;
    this.#now = null;
    this.#sight.unobserve(frame);
    const held = player === document.activeElement;
    hls?.destroy();
    player.pause();
    player.removeAttribute("src");
    player.load();
    player.remove();
    for (const track of player.querySelectorAll("track")) URL.revokeObjectURL(track.src);
    frame.classList.remove("moving", "playing");
    poster.hidden = false;
    if (held) poster.focus({ preventScroll: true });
  }
}

const run = (player) => player.play().catch(() => {}); // refused or failed: the controls, or an error, say so

/** A remark across the lower part of `frame`, with a link; null takes it away. */
function say(frame, text, url) {
  frame.querySelector(".remark")?.remove();
  if (text === null) return;
  const remark = element("p", text, "remark");
  remark.role = "status";
  remark.append(linkTo(url, "open the link"), ".");
  frame.append(remark);
}

/** Captions come as text and are handed on, since a track of another host would ask the video for CORS too. */
async function captions(player, byLocale) {
  for (const [locale, url] of Object.entries(byLocale ?? {}).slice(0, MOST_CAPTIONS)) {
    try {
      const answer = await fetch(address(url), { credentials: "omit" });
      const text = answer.ok ? await answer.text() : "";
      if (!text.startsWith("WEBVTT") || !player.isConnected) continue;
      const src = URL.createObjectURL(new Blob([text], { type: "text/vtt" }));
      player.append(Object.assign(document.createElement("track"), { kind: "captions", srclang: locale, label: locale, src }));
    } catch { // a host that does not let pages read them: the links are among the details
    }
  }
}
