// Writing on: text appears as it is made; a token opens what else it could have been, and a click branches there.
const one = (selector, root = document) => root.querySelector(selector);
const form = () => one("#run");

// Tokens of the texts that are being written, by job: events may come twice (a second attempt, a reconnect).
let job = null, texts = [], asked = 0;

document.addEventListener("live:delta", (event) => {
  const { detail } = event, box = one("[data-writings]", event.target);
  if (!box || !detail.part?.tokens) return;
  if (job !== detail.job) { job = detail.job; texts = []; }
  const tokens = (texts[detail.index] ??= []);
  if (detail.part.start > tokens.length) { // events were lost: the row knows what came before
    if (Date.now() - asked > 1000) { asked = Date.now(); window.htmx.trigger(event.target, "refresh"); }
    return;
  }
  tokens.push(...detail.part.tokens.slice(tokens.length - detail.part.start).map((token) => token.text));
  place(box, detail.index).textContent = tokens.join("");
});

function place(box, number) {
  let found = one(`[data-number="${number}"]`, box);
  if (!found) {
    found = document.createElement("p");
    found.className = "strip";
    found.dir = "auto";
    found.dataset.number = number;
    box.append(found);
  }
  return found;
}

// What is shown again from the row must not be shorter than what was seen already.
document.addEventListener("htmx:afterSettle", () => {
  document.querySelectorAll("[data-writing-actions]").forEach((hidden) => { hidden.hidden = false; });
  const box = one("#result [data-writings]");
  if (!box || one("#result").dataset.id !== job) return;
  for (let number = 0; number < Number(box.dataset.count); number += 1) {
    const shown = place(box, number), known = Number(shown.dataset.known ?? 0), tokens = (texts[number] ??= []);
    if (tokens.length > known) shown.textContent = tokens.join("");
    else texts[number] = Array.from({ length: known }, (_, at) => (at ? "" : shown.textContent));
  }
});

document.addEventListener("strip:show", (event) => {
  const written = event.target.closest("[data-written]"), could = written && one("[data-could]", written);
  if (!could) return;
  if (event.detail === null) { could.hidden = true; return; }
  const cell = event.target.querySelectorAll(".cell")[event.detail];
  const step = Number(cell.dataset.step), tokens = JSON.parse(written.dataset.tokens);
  const before = tokens.slice(0, step).map((token) => token.text).join("");
  const prompt = one("#result [data-prompt]")?.dataset.prompt ?? "";
  const choices = tokens[step].top.filter((entry) => entry.text !== tokens[step].text && !/[∎\ufffd]/.test(entry.text));
  could.hidden = !choices.length;
  one("[data-choices]", could).replaceChildren(...choices.map((entry) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip";
    button.dataset.branch = before + entry.text;
    button.textContent = `${label(prompt + before, entry.text)} ${Math.round(entry.prob * 100)} %`;
    return button;
  }));
});

// As people read it: a blank as a sign, what goes on with the word before it behind dots.
function label(before, text) {
  const word = text.replaceAll("\n", "↵").trim();
  return /[\p{L}\p{N}]$/u.test(before) && /^[\p{L}\p{N}]/u.test(text) ? `…${word}` : word || "␣";
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-branch], [data-continue], [data-again], [data-keep-seed]");
  const target = form(), prompt = target?.elements.prompt, seed = target?.elements["option-seed"];
  if (!button || !prompt) return;
  const text = (one("#result [data-prompt]")?.dataset.prompt ?? "") + (button.dataset.branch ?? button.dataset.continue ?? "");
  prompt.value = [...text].slice(-Number(prompt.dataset.max)).join(""); // only its end is read in any case
  if (seed) seed.value = button.dataset.keepSeed ?? "";
  target.dispatchEvent(new Event("input", { bubbles: true }));
  target.requestSubmit();
  one("#result").scrollIntoView({ block: "nearest" });
});

// An example's seed is for its own beginning: another one is to go on otherwise.
let lent = new URLSearchParams(location.search).has("example") ? form()?.elements["option-seed"]?.value ?? null : null;
document.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-example]");
  if (chip) lent = String(JSON.parse(chip.dataset.options).seed ?? "");
});
document.addEventListener("input", (event) => {
  const seed = form()?.elements["option-seed"];
  if (event.target === seed) lent = null;
  if (lent === null || event.target !== form()?.elements.prompt) return;
  if (seed?.value === lent) seed.value = "";
  lent = null;
});

document.querySelectorAll("[data-writing-actions]").forEach((hidden) => { hidden.hidden = false; });
