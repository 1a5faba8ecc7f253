"use strict";
// A masonry grid that asks for more when its end comes near, keeps only the cards near the screen,
// and plays video cards that are seen or pointed at.
(() => {
  const COLUMN = 236, GAP = 16, SCREENS_KEPT = 2, MOST_FAILURES = 3;
  const grid = document.getElementById("grid");
  const state = document.getElementById("state");
  const options = JSON.parse(grid.dataset.options);
  const columns = Math.max(1, Math.floor((innerWidth - GAP) / (COLUMN + GAP)));
  const heights = Array(columns).fill(0);
  const cards = [];
  let cursor = null, loading = false, ended = false, failures = 0;

  const sentinel = document.createElement("div");
  sentinel.className = "sentinel";
  grid.append(sentinel);

  async function load() {
    if (loading || ended) return;
    loading = true;
    try {
      const answer = await ask(cursor ? { ...options, bookmarks: [cursor] } : options);
      const response = answer.resource_response;
      show(response.data.results ?? response.data);
      turn(response.bookmark);
      failures = 0;
    } catch (error) {
      failures += 1;
      state.textContent = `That did not work: ${error.message}`;
      ended = failures >= MOST_FAILURES;
      await new Promise((resolve) => setTimeout(resolve, 1000 * failures));
    }
    loading = false;
    if (near()) load();
  }

  async function ask(asked) {
    const source = location.pathname + location.search;
    const query = new URLSearchParams({
      source_url: source, data: JSON.stringify({ options: asked, context: {} }), _: Date.now(),
    });
    const answer = await fetch(`/resource/${grid.dataset.resource}/get/?${query}`, {
      headers: {
        "Accept": "application/json, text/javascript, */*, q=0.01",
        "X-Requested-With": "XMLHttpRequest",
        "X-Pinterest-AppState": "active",
        "X-Pinterest-Source-Url": source,
        "X-Pinterest-PWS-Handler": grid.dataset.handler,
      },
    });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return answer.json();
  }

  function turn(next) {
    ended = !next || next === "-end-" || next.startsWith("Y2JOb25lO") || next === cursor;
    cursor = next;
    state.textContent = ended ? "That is all." : "";
  }

  function show(results) {
    for (const pin of results) {
      if (!pin || pin.type !== "pin") continue;
      const column = heights.indexOf(Math.min(...heights));
      const height = 260 + (Number(pin.id.slice(-2)) % 5) * 36;
      cards.push({ pin, left: column * (COLUMN + GAP), top: heights[column], height, element: null });
      heights[column] += height + GAP;
    }
    grid.style.height = `${Math.max(...heights)}px`;
    sentinel.style.top = `${Math.max(0, Math.min(...heights) - 1)}px`;
    draw();
  }

  function draw() {
    const top = scrollY - grid.offsetTop, kept = innerHeight * SCREENS_KEPT;
    for (const card of cards) {
      const near = card.top + card.height > top - kept && card.top < top + innerHeight + kept;
      if (near && !card.element) mount(card);
      if (!near && card.element) unmount(card);
    }
  }

  function mount(card) {
    const { pin } = card;
    const element = document.createElement("div");
    element.dataset.testId = "pin";
    element.dataset.testPinId = pin.id;
    Object.assign(element.style, {
      left: `${card.left}px`, top: `${card.top}px`, height: `${card.height}px`, background: pin.dominant_color ?? "#ddd",
    });
    const link = document.createElement("a");
    link.href = `/pin/${pin.id}/`;
    const picture = document.createElement("img");
    picture.loading = "lazy";
    picture.alt = pin.grid_title ?? "";
    if (pin.images) picture.src = pin.images["236x"].url;
    link.append(picture);
    element.append(link);
    if (moves(pin)) {
      const marker = document.createElement("div");
      marker.dataset.testId = "pinrep-video";
      link.append(marker);
      element.addEventListener("mouseenter", () => play(card));
      seen.observe(element);
    }
    element.card = card;
    card.element = element;
    grid.append(element);
  }

  function unmount(card) {
    seen.unobserve(card.element);
    card.element.remove();
    card.element = null;
  }

  const moves = (pin) => pin.grid_badge === "video" || masters(pin).length > 0;

  function masters(pin) {
    const held = [pin.videos];
    for (const page of pin.story_pin_data?.pages ?? []) held.push(...page.blocks.map((block) => block.video), page.video);
    for (const slot of pin.carousel_data?.carousel_slots ?? []) held.push(slot.videos);
    return held.filter(Boolean).map((video) => {
      const urls = Object.entries(video.video_list).filter(([key]) => key.startsWith("V_HLSV")).map(([, variant]) => variant.url);
      return urls.find(Boolean);
    }).filter(Boolean);
  }

  async function play(card) {
    if (card.played) return;
    card.played = true;
    let addresses = masters(card.pin);
    if (!addresses.length) {
      const answer = await fetch(`/_stand_in/preview/${card.pin.id}`);
      addresses = answer.ok ? (await answer.json()).masters : [];
    }
    for (const address of addresses) await fetch(address).catch(() => null);
    if (!card.element || !addresses.length || !onScreen(card)) return;
    const video = document.createElement("video");
    Object.assign(video, { muted: true, loop: true, playsInline: true });
    if (!video.canPlayType("application/vnd.apple.mpegurl")) return;
    video.src = addresses[0];
    card.element.firstChild.append(video);
    video.play().catch(() => video.remove());
  }

  const onScreen = (card) => {
    const { top, bottom } = card.element.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  };
  const near = () => scrollY + innerHeight * 2 > grid.offsetTop + Math.min(...heights);
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) play(entry.target.card);
      else entry.target.querySelector("video")?.remove();
    }
  }, { threshold: 0.25 });
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) load();
  }, { rootMargin: "100%" }).observe(sentinel);
  addEventListener("scroll", () => { draw(); if (near()) load(); }, { passive: true });

  const embedded = document.getElementById("__PWS_INITIAL_PROPS__");
  const searches = embedded && JSON.parse(embedded.textContent).initialReduxState.resources?.BaseSearchResource;
  if (searches) {
    const first = Object.values(searches)[0];
    show(first.data.results);
    turn(first.nextBookmark);
  } else {
    load();
  }
})();
