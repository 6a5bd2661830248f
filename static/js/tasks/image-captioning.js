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
  const photo = document.querySelector("[data-photo]");
  const canvas = photo?.querySelector("canvas");
  if (!canvas) return;
  const word = event.detail === null ? null : JSON.parse(photo.dataset.words)[event.detail];
  canvas.classList.toggle("on", Boolean(word));
  if (word) paint(canvas, word.attention);
});
