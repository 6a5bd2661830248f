// What every page has: theme, counters, examples, keyboard, copy, the API drawer.
import { watch } from "./live.js";
import { openStrips } from "./strip.js";

const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function setUpTheme() {
  const button = one("#theme");
  if (!button) return;
  const names = ["auto", "light", "dark"];
  const show = () => { one("#theme-name").textContent = document.documentElement.dataset.theme ?? "auto"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "auto";
    const next = names[(names.indexOf(now) + 1) % names.length];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* the choice lasts for this page then */ }
    show();
  });
  show();
}

// Characters as the server counts them: code points, not UTF-16 units.
const length = (text) => [...text].length;

function count(field) {
  const place = one(`[data-count-of="${field.name}"]`);
  if (!place) return;
  const number = length(field.value);
  place.textContent = number.toLocaleString("en");
  place.parentElement.classList.toggle("over", number > Number(field.dataset.max));
}

function request(form) {
  const inputs = {}, options = {};
  for (const field of all("[name]", one("#fields", form))) {
    const isOption = field.name.startsWith("option-");
    let value = field.value;
    if (field.type === "number" || field.type === "range") value = value === "" ? null : Number(value);
    if (field.type === "checkbox") value = field.checked;
    if (field.dataset.kind === "pairs") value = pairs(value);
    if (field.dataset.kind === "list") value = value.split("\n").filter((line) => line.trim());
    if (Array.isArray(value) && !value.length) value = null;
    if (value === null) continue;
    (isOption ? options : inputs)[field.name.replace(/^option-/, "")] = value;
  }
  const body = { task: form.dataset.task, inputs };
  if (Object.keys(options).length) body.options = options;
  return body;
}

// Lines "term = translation" as the API takes them; an empty glossary is left out.
function pairs(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  if (!lines.length) return null;
  return lines.map((line) => {
    const sign = line.includes(" = ") ? " = " : "=";
    const [term, ...rest] = line.split(sign), wanted = rest.join(sign).trim();
    return [term.trim(), wanted || term.trim()];
  });
}

const shellQuote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
// JSON's true, false and null are Python's True, False and None; strings are alike.
const python = (value) =>
  value === null ? "None"
  : typeof value === "boolean" ? (value ? "True" : "False")
  : Array.isArray(value) ? `[${value.map(python).join(", ")}]`
  : typeof value === "object" ? `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${python(v)}`).join(", ")}}`
  : JSON.stringify(value);

function showApi(form) {
  const body = request(form), url = `${location.origin}/api/v1/jobs`;
  const curl = one('[data-api="curl"]'), py = one('[data-api="python"]');
  if (!curl || !py) return;
  // a text that grows comes as events while it is made
  const streams = "grows" in form.dataset, sent = JSON.stringify(streams ? { ...body, stream: true } : body);
  const [silent, wait] = streams ? ["-sN", ""] : ["-s", " -H 'Prefer: wait=30'"];
  curl.textContent = `curl ${silent} ${url} \\\n  -H 'Content-Type: application/json'${wait} \\\n  -d ${shellQuote(sent)}`;
  py.textContent =
    `import json, urllib.request\n\nbody = ${python(body)}\nrequest = urllib.request.Request(\n    "${url}", json.dumps(body).encode(),\n` +
    `    {"Content-Type": "application/json", "Prefer": "wait=30"},\n)\nprint(json.load(urllib.request.urlopen(request))["output"])`;
}

function fill(form, values, prefix = "") {
  for (const [name, value] of Object.entries(values)) {
    const field = form.elements[prefix + name];
    if (!field) continue;
    if (field.type === "checkbox") field.checked = Boolean(value);
    else field.value = value;
  }
}

function fillExample(form, chip) {
  fill(form, JSON.parse(chip.dataset.example));
  // a choice that an example does not make is the task's own again; what the person wrote (a glossary) stays
  for (const field of all('select[data-default]', form)) field.value = field.dataset.default;
  fill(form, JSON.parse(chip.dataset.options), "option-");
}

function refresh(form) {
  for (const range of all("input[type=range]", form)) {
    const shown = one(`output[for="${range.id}"]`, form);
    if (shown) shown.textContent = range.value;
  }
  for (const field of all("[data-max]", form)) count(field);
  showApi(form);
}

// A double click and a key held down are one press: the first's request is answered long before the next comes.
const ASKS = "[data-run], [data-example], [data-branch], [data-continue], [data-again], [data-keep-seed]";
document.addEventListener("click", (event) => {
  if (event.detail < 2 || !event.target.closest(ASKS)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}, true);
document.addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter" && event.target.closest(ASKS)) event.preventDefault();
}, true);

// A form that a whole page answers: a second press while that is on its way would send it twice.
const AGAIN_MS = 10_000;
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || form.hasAttribute("hx-post") || event.defaultPrevented) return;
  const since = performance.now() - Number(form.dataset.sentAt ?? -AGAIN_MS);
  if (since >= AGAIN_MS) { form.dataset.sentAt = performance.now(); return; }
  event.preventDefault();
  if (since > 1_000) say("This was sent a moment ago. Wait for its page, or press again in ten seconds.");
});
window.addEventListener("pageshow", () => { for (const form of all("form[data-sent-at]")) delete form.dataset.sentAt; });

function setUpForm() {
  const form = one("#run");
  if (!form) return;
  const run = one("[data-run]", form);
  form.addEventListener("input", () => {
    run.removeAttribute("aria-disabled"); // what is changed meanwhile is another job
    refresh(form);
  });
  // One press, one job; while its request is under way the button keeps the focus, which a disabled one would lose.
  form.addEventListener("submit", (event) => {
    if (event.submitter !== run || !run.hasAttribute("aria-disabled")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);
  for (const name of ["htmx:afterRequest", "htmx:onLoadError"]) form.addEventListener(name, () => run.removeAttribute("aria-disabled"));
  form.addEventListener("htmx:beforeRequest", () => {
    run.setAttribute("aria-disabled", "true");
    for (const error of all(".error", form)) error.remove();
    for (const field of all("[aria-invalid]", form)) field.removeAttribute("aria-invalid");
  });
  document.addEventListener("keydown", (event) => {
    const wanted = (event.ctrlKey || event.metaKey) && event.key === "Enter" && form.contains(document.activeElement);
    if (wanted && !event.repeat) form.requestSubmit(run);
  });
  all("[data-example]").forEach((chip) => {
    chip.addEventListener("click", () => {
      fillExample(form, chip);
      refresh(form);
      form.requestSubmit();
    });
  });
  const wanted = new URLSearchParams(location.search).get("example");
  if (wanted !== null) {
    const chip = all("[data-example]")[Number(wanted)];
    if (chip) fillExample(form, chip);
  }
  refresh(form);
}

// What the server did not do, in one place; gone with the next thing that it does.
const TROUBLE = {
  401: "You are signed out. Reload the page and sign in.",
  403: "This page may have been open for too long. Reload it and try again.",
  404: "There is nothing here any more: it may have been deleted.",
  413: "This is too large. Send less at once.",
};
function say(words) {
  const place = one("#trouble");
  if (!place || place.textContent === words) return;
  place.textContent = words;
  place.hidden = !words;
}
const unreachable = () => say("The server did not answer. Check the connection and try again.");
document.addEventListener("htmx:responseError", ({ detail: { xhr } }) => {
  say(TROUBLE[xhr.status] ?? (xhr.status < 502 ? "Something failed on the server. Try again in a moment." : "The server is not there just now. Try again in a moment."));
});
document.addEventListener("htmx:sendError", unreachable);
document.addEventListener("htmx:timeout", unreachable);
document.addEventListener("htmx:afterRequest", ({ detail }) => { if (detail.successful) say(""); });

document.addEventListener("change", ({ target }) => {
  const most = Number(target.dataset?.maxBytes);
  if (!most) return;
  const large = [...target.files].some((file) => file.size > most);
  target.setCustomValidity(large ? `The file is larger than ${most / 2 ** 20} MB. Choose a smaller one.` : "");
  if (large) target.reportValidity();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select the text and copy it";
  }
});

// What is swapped takes the focus along, and how far its tables are scrolled; what has an id keeps the focus by itself.
let focused = "", scrolled = [];
document.addEventListener("htmx:beforeSwap", ({ detail: { target } }) => {
  focused = target?.contains(document.activeElement) ? target.id : "";
  scrolled = all(".scroll[id]", target ?? document).map(({ id, scrollTop }) => [id, scrollTop]);
});
document.addEventListener("htmx:afterSettle", () => {
  for (const [id, top] of scrolled) document.getElementById(id)?.scrollTo({ top });
  const swapped = focused && document.getElementById(focused);
  if (swapped && !swapped.contains(document.activeElement)) {
    swapped.tabIndex = -1;
    swapped.focus({ preventScroll: true });
  }
  focused = "";
  scrolled = [];
});

document.addEventListener("htmx:afterSettle", () => {
  openStrips();
  watch();
  const form = one("#run");
  if (form) refresh(form);
});
document.addEventListener("htmx:oobAfterSwap", () => one('#fields [aria-invalid="true"]')?.focus());

setUpTheme();
setUpForm();
openStrips();
watch();
