// Runs before the first paint: the chosen theme, or the system's own.
(() => {
  let theme = null;
  try { theme = localStorage.getItem("theme"); } catch { /* storage may be closed */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
