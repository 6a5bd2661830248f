// Photos dropped, pasted or chosen: each is sent on its own and has its own card, state and error.
import { watch } from "../live.js";
import { openStrips } from "../strip.js";

const MOST_BYTES = 20 * 2 ** 20;
const AT_ONCE = 2; // uploads under way
let atOnce = 1; // the first one alone: it begins the session that all of them belong to
const form = document.querySelector("#run-photos");
const cards = document.querySelector("#cards");
const drop = document.querySelector("#drop");
const input = form.querySelector("[type=file]");
const error = form.querySelector("[data-error]");
const most = Number(form.dataset.most);
const queue = [];
let sending = 0;

const csrf = () => JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];

function tell(words) {
  error.textContent = words;
  error.hidden = !words;
  input.toggleAttribute("aria-invalid", Boolean(words));
}

function waitingCard(name, picture) {
  const card = document.querySelector("#waiting-card").content.firstElementChild.cloneNode(true);
  card.querySelector("[data-name]").textContent = name;
  const image = card.querySelector("img");
  if (picture) {
    image.src = URL.createObjectURL(picture);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src));
    image.addEventListener("error", () => image.remove()); // HEIC and TIFF: few browsers draw them
  } else image.remove();
  card.querySelector("[data-remove]").addEventListener("click", () => card.remove());
  cards.prepend(card);
  return card;
}

function refuse(card, words) {
  const state = card.querySelector("[data-state]");
  state.classList.add("danger");
  state.querySelector("[data-waiting]").textContent = words;
  state.querySelector("span").textContent = "■";
  card.querySelector("[data-remove]").hidden = false;
}

async function send({ card, file, example }) {
  const body = new FormData(form);
  body.delete("image");
  if (file) body.append("image", file);
  else body.set("example", example);
  card.querySelector("[data-waiting]").textContent = "Being sent.";
  let answer, text;
  try {
    answer = await fetch(form.action, { method: "POST", body, headers: { "HX-Request": "true", "X-CSRFToken": csrf() } });
    text = await answer.text();
  } catch {
    refuse(card, "The server did not answer. Check the connection and send it again.");
    return;
  }
  if (!answer.ok || answer.redirected) { // to a page to sign in, which is no card
    const words = answer.headers.get("Content-Type")?.startsWith("text/plain") ? text
      : answer.redirected ? "You are signed out. Reload the page and sign in." : `The server refused it (${answer.status}).`;
    refuse(card, words);
    return;
  }
  atOnce = AT_ONCE;
  const whole = new DOMParser().parseFromString(text, "text/html").querySelector("article");
  card.replaceWith(whole);
  window.htmx.process(whole);
  openStrips();
  watch();
  if (cards.children.length === 1) history.replaceState(null, "", whole.dataset.page);
  else if (location.pathname !== form.dataset.page) history.replaceState(null, "", form.dataset.page);
}

async function next() {
  if (sending >= atOnce || !queue.length) return;
  sending += 1;
  try { await send(queue.shift()); } finally { sending -= 1; for (let i = 0; i < AT_ONCE; i += 1) next(); }
}

function take(files) {
  const chosen = [...files];
  tell(chosen.length > most ? `These are ${chosen.length} photos; the first ${most} are read.` : "");
  document.querySelector("#no-photo")?.remove();
  for (const file of chosen.slice(0, most)) {
    const card = waitingCard(file.name, file);
    if (file.size > MOST_BYTES) refuse(card, "The file is larger than 20 MB. Make it smaller.");
    else queue.push({ card, file });
  }
  for (let i = 0; i < AT_ONCE; i += 1) next();
}

function takeExample(number, title) {
  document.querySelector("#no-photo")?.remove();
  queue.push({ card: waitingCard(title, null), example: number });
  next();
}

input.addEventListener("change", () => { take(input.files); input.value = ""; });
form.addEventListener("submit", (event) => event.preventDefault());
form.querySelector("[data-run]").hidden = true; // choosing is enough

document.addEventListener("paste", (event) => {
  const photos = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  if (photos.length) take(photos);
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  if (!event.dataTransfer?.files.length) return;
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});

document.querySelectorAll("[data-photo-example]").forEach((chip, number) => {
  chip.addEventListener("click", () => takeExample(number, chip.textContent));
});
const wanted = new URLSearchParams(location.search).get("example");
const chip = wanted === null ? null : document.querySelectorAll("[data-photo-example]")[Number(wanted)];
if (chip) { history.replaceState(null, "", location.pathname); chip.click(); }

// Lays over the photo where the model looked for the word that is pointed at.
function paint(canvas, grid) {
  const side = grid.length;
  const small = document.createElement("canvas");
  small.width = small.height = side;
  const pen = small.getContext("2d");
  const cells = pen.createImageData(side, side);
  const peak = Math.max(...grid.flat());
  grid.flat().forEach((share, i) => {
    // what was not looked at is darkened, so the photo itself shows where the look fell
    cells.data[4 * i + 3] = Math.round(190 * (1 - share / peak));
  });
  pen.putImageData(cells, 0, 0);
  canvas.width = canvas.height = 32 * side;
  const big = canvas.getContext("2d");
  big.imageSmoothingEnabled = true;
  big.imageSmoothingQuality = "high";
  big.drawImage(small, 0, 0, canvas.width, canvas.height);
}

document.addEventListener("strip:show", (event) => {
  const card = event.target.closest("[data-words]");
  const canvas = card?.querySelector("canvas");
  if (!canvas) return;
  const word = event.detail === null ? null : JSON.parse(card.dataset.words)[event.detail];
  canvas.classList.toggle("on", Boolean(word));
  if (word) paint(canvas, word.attention);
});

// Who points elsewhere sees the photo as it is; what is pinned or has the focus stays.
document.addEventListener("pointerout", ({ target, relatedTarget }) => {
  const card = target.closest("[data-words]");
  if (!card || card.contains(relatedTarget) || card.querySelector(".cell.pinned, .cell:focus")) return;
  card.querySelector("canvas")?.classList.remove("on");
});

// Another caption takes the place of the first in what is copied and in the alt text.
document.addEventListener("click", (event) => {
  const choice = event.target.closest("[data-choice]");
  if (!choice) return;
  const card = choice.closest("article");
  for (const other of card.querySelectorAll("[data-choice]")) other.setAttribute("aria-pressed", String(other === choice));
  const text = choice.textContent.trim();
  card.querySelector("[data-copy]").dataset.copy = text;
  card.querySelector("[data-alt]").textContent = `<img src="photo.jpg" alt="${text.replaceAll('"', "&quot;")}">`;
});

function showApi() {
  const url = `${location.origin}/api/v1`;
  const curl = document.querySelector('[data-api="curl"]'), python = document.querySelector('[data-api="python"]');
  const bodies = JSON.parse(form.dataset.tasks).map((task) => {
    const options = {};
    for (const field of form.querySelectorAll(`[data-options-of="${task}"] [name]`)) {
      const value = field.type === "number" ? (field.value === "" ? null : Number(field.value)) : field.value;
      if (value !== null) options[field.name.replace(/^option-/, "")] = value;
    }
    return { task, options };
  });
  curl.textContent = [
    `ID=$(curl -s -F file=@photo.jpg ${url}/uploads | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')`,
    ...bodies.map(({ task, options }) =>
      `curl -s ${url}/jobs -H 'Content-Type: application/json' -H 'Prefer: wait=30' \\\n` +
      `  -d '{"task": "${task}", "inputs": {"image": "'$ID'"}, "options": ${JSON.stringify(options)}}'`),
  ].join("\n");
  python.textContent =
    `import base64, json, pathlib, urllib.request\n\n` +
    `image = {"base64": base64.b64encode(pathlib.Path("photo.jpg").read_bytes()).decode()}  # up to 4 MB\n` +
    bodies.map(({ task, options }) =>
      `body = {"task": "${task}", "inputs": {"image": image}, "options": ${JSON.stringify(options)}}\n` +
      `request = urllib.request.Request("${url}/jobs", json.dumps(body).encode(),\n` +
      `    {"Content-Type": "application/json", "Prefer": "wait=30"})\n` +
      `print(json.load(urllib.request.urlopen(request))["output"])`).join("\n");
}
form.addEventListener("input", showApi);
showApi();
