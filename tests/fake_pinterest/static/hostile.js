"use strict";
// Tries every way out of the browser that a page has, to a trap on other ports and under other names.
// `tried` says what came of what can be told; nothing of it may reach the trap.
(() => {
  const port = document.currentScript.dataset.port;
  const tried = window.tried = { done: false, opened: [], read: [], granted: [], workers: [] };
  const hosts = [
    "127.0.0.1", "trap.example", "localhost", "[::1]", "2130706433", "0x7f000001", "017700000001", "0177.0.0.1", "127.1", "0.0.0.0",
    "[::ffff:127.0.0.1]", "127.0.0.1.trap.example", "pinterest.com.trap.example",
  ];
  const away = (to) => `/_stand_in/away?to=${encodeURIComponent(to)}`;
  const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const quietly = (what) => { try { return Promise.resolve(what()).catch(() => null); } catch { return Promise.resolve(); } };
  const element = (name, attributes, parent = document.body) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  };
  const heard = (socket, name) => new Promise((resolve) => {
    socket.onopen = () => { tried.opened.push(name); resolve(); };
    socket.onerror = socket.onclose = resolve;
  });

  function markup(to) {
    element("img", { src: to("image") });
    element("img", { srcset: `${to("srcset")} 2x` });
    element("script", { src: to("script") });
    element("script", { src: to("module"), type: "module" });
    element("iframe", { srcdoc: `<meta http-equiv="refresh" content="0;url=${to("meta")}">` });
    element("iframe", { srcdoc: `<script>location.href = ${JSON.stringify(to("location"))}<\/script>` });
    element("iframe", { srcdoc: `<form id="f" method="post" action="${to("form")}"></form><script>f.submit()<\/script>` });
    element("object", { data: to("object") });
    element("embed", { src: to("embed") });
    element("video", { src: to("video"), autoplay: "", muted: "", poster: to("poster") });
    element("audio", { src: to("audio"), autoplay: "" });
    for (const rel of ["stylesheet", "prefetch", "preconnect", "dns-prefetch", "prerender", "modulepreload", "manifest", "icon"]) {
      element("link", { rel, href: to(rel) }, document.head);
    }
    for (const as of ["fetch", "image", "style", "script", "font"]) {
      element("link", { rel: "preload", as, href: to(`preload-${as}`), crossorigin: "" }, document.head);
    }
    element("style", {}).textContent = `@import url("${to("import")}");
      @font-face { font-family: trap; src: url("${to("font")}"); }
      body { background: url("${to("background")}"); font-family: trap; cursor: url("${to("cursor")}"), auto; }`;
    const rules = { prefetch: [{ urls: [to("speculated")] }], prerender: [{ urls: [to("prerendered")] }] };
    element("script", { type: "speculationrules" }).textContent = JSON.stringify(rules);
    const link = element("a", { href: "#", ping: to("ping") });
    link.click();
  }

  function requests(to) {
    return [
      quietly(() => fetch(to("fetch"), { mode: "no-cors" })),
      quietly(() => fetch(to("post"), { mode: "no-cors", method: "POST", body: "x", keepalive: true })),
      quietly(() => fetch(away(to("redirected")), { mode: "no-cors" })),
      quietly(() => { const asked = new XMLHttpRequest(); asked.open("GET", to("xhr")); asked.send(); }),
      quietly(() => navigator.sendBeacon(to("beacon"), "x")),
      quietly(() => { element("iframe", { src: away(to("redirected-iframe")) }); }),
      quietly(() => { element("img", { src: away(to("redirected-image")) }); }),
      quietly(() => { new EventSource(to("events")); }),
      quietly(() => import(to("imported"))),
      quietly(() => new WebTransport(to("transport").replace(/^http:/, "https:")).ready.then(() => tried.opened.push("transport"))),
    ];
  }

  function workers(to) {
    const body = `
      try { importScripts(${JSON.stringify(to("worker-import"))}); } catch {}
      fetch(${JSON.stringify(to("worker-fetch"))}, { mode: "no-cors" }).catch(() => null);
      try { new WebSocket(${JSON.stringify(to("worker-socket").replace(/^http/, "ws"))}); } catch {}`;
    const blob = URL.createObjectURL(new Blob([body], { type: "text/javascript" }));
    return [quietly(() => { new Worker(blob); }), quietly(() => { new SharedWorker(blob, to("shared")); })];
  }

  async function calls(host) {
    const urls = ["udp", "tcp"].flatMap((way) => [
      { urls: `turn:${host}:${port}?transport=${way}`, username: "x", credential: "x" },
    ]);
    const frame = element("iframe", {});
    for (const Peer of [window.RTCPeerConnection, frame.contentWindow.RTCPeerConnection]) {
      if (!Peer) continue;
      tried.workers.push("peer");
      const peer = new Peer({ iceServers: [{ urls: `stun:${host}:${port}` }, ...urls] });
      peer.createDataChannel("x");
      await peer.setLocalDescription(await peer.createOffer());
      await peer.addIceCandidate({ candidate: `candidate:1 1 udp 2122260223 ${host} ${port} typ host`, sdpMLineIndex: 0 }).catch(() => null);
    }
  }

  async function files() {
    for (const address of ["file:///etc/hostname", "file:///proc/self/environ", "chrome://version", "view-source:file:///etc/hostname"]) {
      await quietly(async () => tried.read.push(await (await fetch(address)).text()));
      await quietly(() => { const asked = new XMLHttpRequest(); asked.open("GET", address, false); asked.send(); tried.read.push(asked.responseText); });
      const frame = element("iframe", { src: address });
      await later(50);
      await quietly(() => { const text = frame.contentDocument?.body?.textContent; if (text) tried.read.push(text); });
    }
  }

  async function permissions() {
    for (const name of ["geolocation", "notifications", "camera", "microphone", "clipboard-read", "midi", "persistent-storage", "push", "local-network-access"]) {
      await quietly(async () => {
        const { state } = await navigator.permissions.query({ name, userVisibleOnly: true });
        if (state === "granted") tried.granted.push(name);
      });
    }
    const soon = (promise) => Promise.race([promise, later(300).then(() => { throw new Error("no answer"); })]);
    await quietly(async () => { if (await soon(Notification.requestPermission()) === "granted") tried.granted.push("asked"); });
    await quietly(async () => { await soon(navigator.mediaDevices.getUserMedia({ audio: true, video: true })); tried.granted.push("media"); });
    await quietly(async () => { await soon(navigator.clipboard.readText()); tried.granted.push("clipboard"); });
    await quietly(() => soon(new Promise((resolve, reject) => navigator.geolocation.getCurrentPosition(() => { tried.granted.push("place"); resolve(); }, reject))));
    await quietly(async () => {
      await soon(navigator.serviceWorker.register("/_stand_in/static/nothing.js", { scope: "/_stand_in/static/" }));
      const [registered] = await navigator.serviceWorker.getRegistrations();
      if (registered) tried.workers.push("service");
    });
  }

  function downloads() {
    element("a", { href: "/_stand_in/attachment", download: "trap.txt" }).click();
    element("a", { href: "data:application/octet-stream,x", download: "trap.bin" }).click();
    element("iframe", { src: "/_stand_in/attachment" });
  }

  (async () => {
    const waiting = [];
    for (const [n, host] of hosts.entries()) {
      const to = (way) => `http://${host}:${port}/${way}-${n}`;
      waiting.push(...(n < 2 ? requests(to) : requests(to).slice(0, 3)));
      waiting.push(quietly(() => heard(new WebSocket(to("socket").replace(/^http/, "ws")), "socket")));
      element("iframe", { src: to("iframe") });
      if (n >= 2) continue;
      markup(to);
      waiting.push(...workers(to), quietly(() => fetch(to("tls").replace(/^http/, "https"), { mode: "no-cors" })));
      await later(20);
    }
    for (const host of hosts.slice(0, 3)) await quietly(() => calls(host));
    for (const host of [...hosts.slice(0, 3), location.host]) window.open(`http://${host}:${port}/opened`.replace(/:\d+:/, ":"));
    window.open(away(`http://127.0.0.1:${port}/opened-redirected`), "_blank", "noopener");
    downloads();
    await files();
    await permissions();
    await Promise.race([Promise.all(waiting), later(3000)]);
    tried.done = true;
  })();
})();
