// One event stream for all that is under way on this page; polling where streams do not get through.
const POLL_MS = 2000;
const TABLE_MS = 4000; // a batch's table is fetched anew at most so often
const MOST = 100; // jobs that one stream follows
let source = null, polling = null, followed = new Set();

const live = () => [...document.querySelectorAll("[data-live]")];
// a panel follows its jobs, or the one row that it shows
const ids = (panel) => (panel.dataset.jobs ?? panel.dataset.id).split(" ");

// Not under the hands of somebody who types in it: later then.
function refresh(panel) {
  const fields = [...panel.querySelectorAll("textarea, input:not([type=hidden])")];
  const typing = fields.some((field) => field === document.activeElement || field.value !== field.defaultValue);
  if (!typing) window.htmx.trigger(panel, "refresh");
  else setTimeout(() => { if (panel.isConnected) refresh(panel); }, POLL_MS);
}

function stop() {
  source?.close();
  clearInterval(polling);
  source = polling = null;
  followed = new Set();
}

function poll() {
  source?.close();
  source = null;
  polling ??= setInterval(() => live().forEach(refresh), POLL_MS);
}

const panelOf = (state) => {
  const panels = live();
  return panels.find((panel) => ids(panel).includes(state.job)) ?? (state.job ? undefined : panels[0]);
};

function onState(event) {
  const state = JSON.parse(event.data), panel = panelOf(state);
  if (!panel || !state.waiting) return;
  const words = panel.querySelector("[data-waiting]");
  if (words) words.textContent = state.waiting;
  panel.querySelector("[data-state]")?.classList.toggle("warning", /No worker/.test(state.waiting));
}

function onChange(event) {
  const data = JSON.parse(event.data), panel = panelOf(data);
  if (!panel) return;
  // a text that grows token by token is written by its own script: only the count is new
  if (event.type !== "progress") { refresh(panel); return; }
  const table = panel.dataset.live === "batch";
  if (table || panel.hasAttribute("data-streams")) count(panel, data);
  if (table) later(panel);
  else if (!panel.hasAttribute("data-streams")) refresh(panel);
}

let tables = null;
function later(panel) {
  tables ??= setTimeout(() => { tables = null; if (panel.isConnected) refresh(panel); }, TABLE_MS);
}

function count(panel, { done, total, unit }) {
  const words = panel.querySelector("[data-waiting]"), bar = panel.querySelector("progress");
  if (words) words.textContent = `${done} of ${total} ${unit}`;
  if (bar) Object.assign(bar, { max: total, value: done });
}

function onDelta(event) {
  const detail = JSON.parse(event.data), panel = panelOf(detail);
  panel?.dispatchEvent(new CustomEvent("live:delta", { bubbles: true, detail }));
}

function onDone(event) {
  const { job } = JSON.parse(event.data);
  onChange(event);
  if (job) followed.delete(job);
  else followed.clear();
  if (!followed.size) { source?.close(); source = null; }
}

// One panel's own address may carry its token; several are this visitor's and share a stream.
function address(panels) {
  if (panels.length === 1) return panels[0].dataset.events;
  return `/api/v1/events?${asked(panels).map((id) => `job=${id}`).join("&")}`;
}

// The others have their turn when these are done.
const asked = (panels) => (panels.length === 1 ? ids(panels[0]) : panels.flatMap(ids).slice(0, MOST));

export function watch() {
  const panels = live();
  if (!panels.length || document.hidden) { stop(); return; }
  const wanted = asked(panels);
  if (polling || (source && wanted.every((id) => followed.has(id)))) return;
  stop();
  followed = new Set(wanted);
  let failures = 0;
  source = new EventSource(address(panels));
  source.addEventListener("open", () => { failures = 0; });
  source.addEventListener("state", onState);
  source.addEventListener("progress", onChange);
  source.addEventListener("delta", onDelta);
  source.addEventListener("done", onDone);
  source.addEventListener("error", () => {
    failures += 1;
    // refused for good (a proxy's 502, a 404): the browser does not try again
    if (failures > 2 || source?.readyState === EventSource.CLOSED) poll();
  });
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) stop();
  else { live().forEach(refresh); watch(); }
});
