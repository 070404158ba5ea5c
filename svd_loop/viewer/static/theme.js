// Runs before the page is drawn, so that a chosen theme does not flash. The choice is kept by this browser alone.
try {
  const theme = localStorage.getItem("svd-loop-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // storage may be forbidden: then the system decides
}
