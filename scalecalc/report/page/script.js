// Filter, sort, copy, theme. The page reads without any of it. Filters and sorting work on the table with the id "rows",
// where every entry is a tbody of two lines: the row, and what unfolds below it.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("script");
  const find = (selector, from = document) => [...from.querySelectorAll(selector)];

  const theme = document.getElementById("theme");
  if (theme) {
    const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    const label = () => { theme.textContent = dark() ? "Light theme" : "Dark theme"; };
    theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
    label();
  }

  const said = document.getElementById("said");
  const legacy = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("aria-hidden", "true");
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  for (const button of find("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      let done = true;
      try { await navigator.clipboard.writeText(text); } catch { done = legacy(text); }
      button.focus();
      said.textContent = done ? `${button.textContent.trim()}: copied.` : "The browser does not let a page copy; select the text.";
      const before = button.dataset.label ??= button.textContent;
      button.textContent = done ? "Copied" : "Not copied";
      setTimeout(() => { button.textContent = before; }, 1500);
    });
  }

  const table = document.getElementById("rows");
  if (!table) return;
  const entries = find("tbody.row", table), heads = find("tbody.kind", table);
  const order = [...table.tBodies];
  const count = document.getElementById("count"), text = document.getElementById("filter");
  const choices = find("select[data-by]");
  let sorted = false;

  const filter = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of entries) {
      const fits = choices.every((c) => !c.value || entry.dataset[c.dataset.by] === c.value)
        && words.every((word) => entry.dataset.text.includes(word));
      entry.hidden = !fits;
      shown += fits;
    }
    for (const head of heads) {
      head.hidden = sorted || !entries.some((entry) => !entry.hidden && entry.dataset.kind === head.dataset.kind);
    }
    count.textContent = `${shown} of ${entries.length} rows`;
  };
  text.addEventListener("input", filter);
  for (const choice of choices) choice.addEventListener("change", filter);
  document.getElementById("clear").addEventListener("click", () => {
    text.value = "";
    for (const choice of choices) choice.value = "";
    arrange(null, "none");
    text.focus();
  });

  const key = (entry, column) => {
    const cell = entry.rows[0].cells[column];
    return cell.dataset.key ?? cell.textContent.trim();
  };
  const compare = (a, b) => {
    const [x, y] = [parseFloat(a), parseFloat(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  const columns = find("thead th", table);
  const arrange = (column, direction) => {
    columns.forEach((th, i) => { if (th.hasAttribute("aria-sort")) th.setAttribute("aria-sort", i === column ? direction : "none"); });
    sorted = direction !== "none";
    const sign = direction === "descending" ? -1 : 1;
    table.append(...(sorted ? [...heads, ...[...entries].sort((a, b) => sign * compare(key(a, column), key(b, column)))] : order));
    filter();
  };
  columns.forEach((th, i) => {
    const button = th.querySelector("button");
    if (!button) return;
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    button.addEventListener("click", () => arrange(i, next[th.getAttribute("aria-sort")]));
  });

  const all = document.getElementById("unfold");
  all.addEventListener("click", () => {
    const open = all.getAttribute("aria-pressed") !== "true";
    for (const entry of entries) if (!entry.hidden) entry.querySelector("details.why").open = open;
    all.setAttribute("aria-pressed", open);
  });
  const follow = () => {
    const there = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const why = there?.matches("tbody.row") && there.querySelector("details.why");
    if (!why) return;
    there.hidden = false;
    why.open = true;
    there.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  filter();
  follow();
})();
