// One event stream for what is under way on this page; polling where streams do not get through.
const POLL_MS = 2000;
let source = null, polling = null, followed = "";

const live = () => document.querySelector("[data-live]");
const refresh = () => { const panel = live(); if (panel) window.htmx.trigger(panel, "refresh"); };

function stop() {
  source?.close();
  clearInterval(polling);
  source = polling = null;
  followed = "";
}

function poll() {
  source?.close();
  source = null;
  polling ??= setInterval(refresh, POLL_MS);
}

function onState(event) {
  const words = document.querySelector("[data-live] [data-waiting]");
  const state = JSON.parse(event.data);
  if (words && state.waiting) words.textContent = state.waiting;
  document.querySelector("[data-live] [data-state]")?.classList.toggle("warning", /No worker/.test(state.waiting ?? ""));
}

export function watch() {
  const panel = live();
  if (!panel || document.hidden) { stop(); return; }
  if (panel.dataset.id === followed) return;
  stop();
  followed = panel.dataset.id;
  let failures = 0;
  source = new EventSource(panel.dataset.events);
  source.addEventListener("open", () => { failures = 0; });
  source.addEventListener("state", onState);
  source.addEventListener("progress", refresh);
  source.addEventListener("done", () => { source?.close(); source = null; refresh(); });
  source.addEventListener("error", () => { failures += 1; if (failures > 2) poll(); });
}

document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); else { refresh(); watch(); } });
