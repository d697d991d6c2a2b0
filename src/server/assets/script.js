// The pages work without this. It keeps them true while they are open: swaps what the server rendered
// anew when the stream says so, counts down, counts ages, and shows times in the reader's own zone.
"use strict";
(() => {
  const body = document.body;
  // Countdowns follow the server's clock, not this machine's.
  const skew = body.dataset.now ? Number(body.dataset.now) - Date.now() : 0;
  const now = () => Date.now() + skew;

  const two = (n) => String(n).padStart(2, "0");
  const clock = (s) => (s >= 3600 ? Math.floor(s / 3600) + ":" + two(Math.floor(s / 60) % 60) : two(Math.floor(s / 60))) + ":" + two(s % 60);
  const words = (s) => s < 60 ? s + " s" : s < 3600 ? Math.floor(s / 60) + " min" : s < 86400 ? Math.floor(s / 3600) + " h" : Math.floor(s / 86400) + " days";

  function set(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function beat() {
    for (const e of document.querySelectorAll("[data-until]")) {
      const left = Math.max(0, Math.floor((Number(e.dataset.until) - now()) / 1000));
      set(e, clock(left));
      e.classList.toggle("soon", left < 60);
    }
    for (const e of document.querySelectorAll("[data-since]")) {
      set(e, words(Math.max(0, Math.floor((now() - Number(e.dataset.since)) / 1000))));
    }
    // What was seen more than five seconds ago is not "now".
    for (const e of document.querySelectorAll("[data-fresh]")) {
      if (now() - Number(e.dataset.fresh) > 5900 && !e.classList.contains("off")) {
        e.classList.add("off");
        set(e.firstElementChild, "now: unknown · seen");
      }
    }
  }

  const zone = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short" };
  const dated = { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short" };

  function dress(root) {
    for (const e of root.querySelectorAll("time[data-local]")) {
      const at = new Date(e.dateTime);
      e.textContent = new Intl.DateTimeFormat("en-GB", e.dataset.local === "time" ? zone : dated).format(at).replace(",", "");
      delete e.dataset.local;
    }
    for (const e of root.querySelectorAll("[data-script]")) e.hidden = false;
  }

  // Regions are compared as the server sent them: what the script changed is no difference.
  const sent = new Map();
  for (const e of document.querySelectorAll("[data-region]")) sent.set(e.id, e.dataset.key ?? e.outerHTML);

  function swap(fresh) {
    for (const region of fresh.querySelectorAll("[data-region]")) {
      const old = document.getElementById(region.id);
      const print = region.dataset.key ?? region.outerHTML;
      // A region with a key stays as long as the key does: nobody's half-written reason is lost.
      if (!old || sent.get(region.id) === print) continue;
      sent.set(region.id, print);
      const open = [...old.querySelectorAll("details")].map((d) => d.open);
      const typed = old.querySelector("#reason")?.value;
      const focus = old.contains(document.activeElement) && document.activeElement;
      const moved = document.importNode(region, true);
      dress(moved);
      [...moved.querySelectorAll("details")].forEach((d, i) => { d.open = open[i] ?? false; });
      const reason = moved.querySelector("#reason");
      if (reason && typed) reason.value = typed;
      // The region itself stays: only then is its change read aloud.
      old.className = moved.className;
      old.hidden = moved.hidden;
      old.replaceChildren(...moved.childNodes);
      if (focus) [...old.querySelectorAll("a, button, input")].find((e) => focus.id ? e.id === focus.id : e.href && e.href === focus.href)?.focus();
    }
    beat();
  }

  dress(document);
  beat();
  setInterval(beat, 1000);

  document.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-fill]");
    if (!chip) return;
    const field = document.getElementById(chip.dataset.fill);
    field.value = chip.textContent;
    field.focus();
  });
  // One click is one answer.
  document.addEventListener("submit", (event) => {
    if (event.target.dataset.sent) return event.preventDefault();
    if (event.target.method !== "post") return;
    event.target.dataset.sent = "1";
    setTimeout(() => delete event.target.dataset.sent, 4000);
  });

  const live = document.querySelector("[data-live]");
  if (!live) return;
  let stream, poll, busy = false, again = false, over = false;

  function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    // A document from XMLHttpRequest never passes through innerHTML, and its scripts do not run.
    const request = new XMLHttpRequest();
    request.open("GET", live.dataset.fragment);
    request.responseType = "document";
    request.timeout = 8000;
    request.onloadend = () => {
      busy = false;
      if (request.status === 401) return location.reload();
      if (request.status === 200 && request.responseXML) swap(request.responseXML);
      if (again) { again = false; refresh(); }
    };
    request.send();
  }

  function stop() {
    stream?.close();
    stream = undefined;
    clearInterval(poll);
  }

  function start() {
    stop();
    if (over || document.hidden) return;
    stream = new EventSource(live.dataset.events);
    stream.addEventListener("changed", refresh);
    stream.addEventListener("look", refresh);
    stream.addEventListener("end", () => { over = true; stop(); refresh(); });
    // A stream that is refused for good is no reason to go blind.
    stream.onerror = () => {
      if (stream?.readyState === EventSource.CLOSED) { clearInterval(poll); poll = setInterval(refresh, 4000); }
    };
  }

  document.addEventListener("visibilitychange", () => { start(); if (!document.hidden) refresh(); });
  addEventListener("pagehide", stop);
  start();
})();
