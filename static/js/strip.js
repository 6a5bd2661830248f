// The strip: text whose cells open. Tab enters once, arrows move, Enter or Space pins, Escape lets go.
const pointer = { x: null, y: null };
document.addEventListener("pointermove", (event) => { pointer.x = event.clientX; pointer.y = event.clientY; });
// Where the page moved under a pointer that rests, nobody pointed at anything.
const rests = (event) => event.clientX === pointer.x && event.clientY === pointer.y;

function open(box) {
  if (box.dataset.opened) return;
  box.dataset.opened = "yes";
  const cells = [...box.querySelectorAll(".cell")];
  const place = box.querySelector("[data-detail-place]");
  const hint = place.innerHTML;
  let current = 0, pinned = null;

  const show = (cell) => {
    box.dispatchEvent(new CustomEvent("strip:show", { bubbles: true, detail: cell ? cells.indexOf(cell) : null }));
    place.textContent = "";
    if (!cell) { place.innerHTML = hint; return; }
    const word = document.createElement("strong");
    word.textContent = cell.dataset.blank ?? cell.textContent.trim();
    place.append(word, ` ${cell.dataset.detail}`);
  };
  const pin = (cell) => {
    pinned?.classList.remove("pinned");
    pinned = pinned === cell ? null : cell;
    pinned?.classList.add("pinned");
    show(pinned);
  };
  // on over cells that stepped aside
  const move = (to, by = 1) => {
    while (cells[to]?.hidden) to += by;
    if (!cells[to]) return;
    cells[current].tabIndex = -1;
    current = to;
    cells[current].tabIndex = 0;
    cells[current].focus();
  };

  cells.forEach((cell, index) => {
    cell.tabIndex = index ? -1 : 0;
    cell.addEventListener("pointerenter", (event) => { if (!pinned && !rests(event)) show(cell); });
    cell.addEventListener("focus", () => {
      cells[current].tabIndex = -1;
      current = index;
      cell.tabIndex = 0;
      if (!pinned) show(cell);
    });
    cell.addEventListener("click", () => { if (!getSelection().toString()) { move(index); pin(cell); } });
  });
  box.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (!event.target.classList.contains("cell")) return;
    if (event.key in steps) move(current + steps[event.key], steps[event.key]);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(cells.length - 1, -1);
    else if (event.key === "Enter" || event.key === " ") pin(cells[current]);
    else if (event.key === "Escape") { if (pinned) pin(pinned); show(null); }
    else return;
    event.preventDefault();
  });
}

export function openStrips() {
  document.querySelectorAll("[data-strip]").forEach(open);
}
