// Translation: the sentence behind a word, other translations to click, languages to swap.
const one = (selector, root = document) => root.querySelector(selector);
const TINTS = 5;

// The sentence of the cell that is shown, its source words tinted by how much the cell looked at them.
document.addEventListener("strip:show", (event) => {
  const result = event.target.closest("#result"), place = result && one("[data-origin]", result);
  if (!place || event.detail === null) return;
  const cell = event.target.querySelectorAll(".cell")[event.detail];
  const sentence = one(`[data-sentence="${cell?.dataset.part}"]`, result);
  if (!sentence) return;
  place.hidden = false;
  if (place.dataset.part !== cell.dataset.part) {
    place.dataset.part = cell.dataset.part;
    place.replaceChildren(one(".source", sentence).cloneNode(true));
    const others = one(".others", sentence);
    if (others) place.append(others.cloneNode(true));
  }
  const row = JSON.parse(sentence.dataset.rows)[Number(cell.dataset.step)] ?? [];
  place.querySelectorAll(".word").forEach((word, index) => {
    const step = Math.min(TINTS, Math.round((row[index] ?? 0) * TINTS));
    word.className = step ? `word for-${step}` : "word";
  });
});

// An alternative takes the sentence's place in the text, and in what is copied; a second click takes it back.
document.addEventListener("click", (event) => {
  const choice = event.target.closest("[data-alternative]");
  if (!choice) return;
  const result = choice.closest("#result");
  const part = (choice.closest("[data-sentence]") ?? choice.closest("[data-origin]")).dataset.sentence
    ?? one("[data-origin]", result).dataset.part;
  const text = choice.dataset.alternative, chosen = choice.getAttribute("aria-pressed") !== "true";
  if (!replace(result, part, chosen ? text : null)) return;
  result.querySelectorAll(`[data-sentence="${part}"] .choice, [data-origin][data-part="${part}"] .choice`).forEach((other) => {
    other.setAttribute("aria-pressed", String(chosen && other.dataset.alternative === text));
  });
});

function replace(result, part, text) {
  const strip = one("[data-cells]", result);
  one(`.chosen[data-part="${part}"]`, strip)?.remove();
  const cells = [...strip.querySelectorAll(`.cell[data-part="${part}"]`)];
  if (!cells.length) return false;
  // cells and the blanks between them step aside together
  for (let node = cells[0]; node; node = node.nextSibling) {
    if (node.nodeType === Node.TEXT_NODE && node !== cells.at(-1)) {
      const blank = document.createElement("span");
      blank.className = "blank";
      blank.dataset.part = part;
      node.replaceWith(blank);
      blank.append(node);
      node = blank;
    }
    if (node === cells.at(-1)) break;
  }
  strip.querySelectorAll(`.cell[data-part="${part}"], .blank[data-part="${part}"]`).forEach((node) => { node.hidden = text !== null; });
  if (text !== null) {
    const chosen = document.createElement("span");
    chosen.className = "chosen";
    chosen.dataset.part = part;
    chosen.textContent = text;
    cells[0].before(chosen);
  }
  // Tab must still find a way into the strip, whose only stop may have stepped aside
  const stops = [...strip.querySelectorAll(".cell")].filter((cell) => !cell.hidden);
  if (stops.length && !stops.some((cell) => cell.tabIndex === 0)) stops[0].tabIndex = 0;
  const copy = one("[data-copy]", result);
  if (copy) copy.dataset.copy = shown(strip);
  download(one(".actions a[download]", result), one(".chosen", strip) ? shown(strip) : null);
  return true;
}

// The server's file is the first translation; what was chosen here is saved from here.
function download(link, text) {
  if (!link) return;
  link.dataset.first ??= link.getAttribute("href");
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  link.href = text === null ? link.dataset.first : URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = text === null ? "" : "translation.txt";
}

const shown = (strip) => [...strip.childNodes].filter((node) => !node.hidden).map((node) => node.textContent).join("");

// The fields are swapped after a refusal, so they are looked up at each use.
const pickers = () => {
  const { elements } = one("#run");
  return { source: elements["option-source"], target: elements["option-target"], text: elements.text };
};

// What the shown translation was made of: another text that somebody typed since is not taken away.
let sent = one("#result [data-cells]") ? pickers().text.value : null, asked = null;
document.addEventListener("htmx:beforeRequest", ({ target }) => { if (target.id === "run") asked = pickers().text.value; });
document.addEventListener("htmx:pushedIntoHistory", () => { sent = asked; });

document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-swap]")) return;
  const { source, target, text } = pickers();
  const result = one("#result"), strip = one("[data-cells]", result);
  const same = text.value === sent;
  const detected = same ? one("[data-detected]", result)?.dataset.detected : undefined;
  const from = source.value === "auto" ? detected ?? (target.value === "en" ? "de" : "en") : source.value;
  source.value = target.value;
  target.value = from;
  if (strip && same) text.value = shown(strip);
  one("#run").dispatchEvent(new Event("input", { bubbles: true }));
  text.focus();
});

// one of the two is always English
document.addEventListener("change", ({ target: changed }) => {
  if (!changed.closest("#run") || !/^option-(source|target)$/.test(changed.name) || changed.value === "auto") return;
  const { source, target } = pickers(), other = changed === source ? target : source;
  if (changed.value === other.value || (changed.value !== "en" && other.value !== "en" && other.value !== "auto")) {
    other.value = changed.value === "en" ? (other === target ? "de" : "auto") : "en";
  }
});

const showSwap = () => { const swap = one("[data-swap]"); if (swap) swap.hidden = false; };
document.addEventListener("htmx:oobAfterSwap", showSwap);
showSwap();
