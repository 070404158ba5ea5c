// Keys, filters, the theme switch, and live refresh. Everything is a link or a form without this script too.

const root = document.documentElement;
const bar = document.querySelector("header.topbar");

function toast(text) {
  const box = document.getElementById("toast");
  box.textContent = text;
  box.classList.add("shown");
  setTimeout(() => box.classList.remove("shown"), 1600);
}

function switchTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("svd-loop-theme", root.dataset.theme);
  } catch {
    // not kept
  }
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
  return Boolean(link);
}

// ---- next and previous: rows of a list, else the links of the page

function rows() {
  return [...document.querySelectorAll("[data-row]")];
}

function linkOf(row) {
  return row.matches("a, article") ? row : row.querySelector("a");
}

function step(direction) {
  const all = rows();
  if (!all.length) {
    follow(direction > 0 ? 'a[rel="next"]' : 'a[rel="prev"]');
    return;
  }
  const now = all.findIndex((row) => row.contains(document.activeElement));
  const next = now < 0 ? (direction > 0 ? 0 : all.length - 1) : now + direction;
  if (next >= all.length && follow('.pager a[rel="next"]')) return;
  const row = all[Math.min(Math.max(next, 0), all.length - 1)];
  linkOf(row).focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

function up() {
  const marked = document.querySelector(".crumbs [data-up]");
  const crumbs = document.querySelectorAll(".crumbs a");
  (marked || crumbs[crumbs.length - 1]).click();
}

function unfold() {
  const folds = [...document.querySelectorAll("main details")];
  const open = folds.some((fold) => !fold.open);
  for (const fold of folds) fold.open = open;
}

function toggleHelp() {
  const help = document.getElementById("help");
  if (help.open) help.close();
  else help.showModal();
}

function search() {
  const field = document.querySelector('.filters input[name="text"]') || document.querySelector(".find input");
  if (field) field.focus();
}

const keys = {
  j: () => step(1),
  k: () => step(-1),
  ArrowRight: () => follow('a[rel="next"]'),
  ArrowLeft: () => follow('a[rel="prev"]'),
  u: up,
  "/": search,
  e: unfold,
  r: () => follow("[data-raw]"),
  t: switchTheme,
  "?": toggleHelp,
  c: () => navigator.clipboard?.writeText(location.href).then(() => toast("link copied"), () => toast(location.href)),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = keys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

document.addEventListener("click", (event) => {
  const what = event.target.closest("[data-do]")?.dataset.do;
  if (what === "theme") switchTheme();
  if (what === "help") toggleHelp();
  const row = event.target.closest("tr[data-row]");
  if (row && !event.target.closest("a") && !String(getSelection())) row.querySelector("a").click();
});

// ---- filters: sent when chosen; empty fields stay out of the address

for (const form of document.querySelectorAll("form.filters")) {
  form.addEventListener("change", (event) => {
    if (event.target.matches("select")) form.requestSubmit();
  });
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    setTimeout(() => {
      for (const field of form.elements) field.disabled = false;
    });
  });
}

for (const link of document.querySelectorAll("[data-raw]")) {
  const address = new URL(location.href);
  if (address.searchParams.has("raw")) address.searchParams.delete("raw");
  else address.searchParams.set("raw", "1");
  link.href = address.pathname + address.search;
}

// ---- live: asks for the counts, and renews what depends on those that changed

async function renew(kinds) {
  const parts = [...document.querySelectorAll("[data-refresh]")].filter((part) => kinds.includes(part.dataset.refresh));
  if (!parts.length || parts.some((part) => part.contains(document.activeElement))) return;
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of parts) {
    const all = [...document.querySelectorAll("[data-refresh]")];
    const fresh = page.querySelectorAll("[data-refresh]")[all.indexOf(part)];
    if (fresh) part.replaceWith(document.adoptNode(fresh));
  }
}

async function beat() {
  let wait = 2000;
  try {
    if (!document.hidden) {
      const answer = await fetch("/pulse");
      const now = await answer.json();
      const state = document.getElementById("live");
      state.textContent = now.working ? "working" : now.stopped ? "ended" : "paused";
      state.classList.toggle("live", now.working);
      const kinds = [];
      if (String(now.rounds) !== bar.dataset.rounds || String(Number(now.stopped)) !== bar.dataset.stopped) kinds.push("rounds");
      if (String(now.replies) !== bar.dataset.replies) kinds.push("replies");
      Object.assign(bar.dataset, { rounds: now.rounds, replies: now.replies, stopped: Number(now.stopped) });
      if (kinds.length) await renew(kinds);
      if (now.stopped) wait = 15000;
    }
  } catch {
    document.getElementById("live").textContent = "viewer stopped";
    wait = 10000;
  }
  setTimeout(beat, wait);
}

if (bar?.dataset.rounds !== undefined) setTimeout(beat, 2000);
