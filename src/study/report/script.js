"use strict";
// The page is whole without this: it adds light or dark by hand, values under the pointer and the keyboard, and tables
// that sort and filter. Text is only ever set as text.
(() => {
  const make = (tag, attributes, text) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // Light or dark.
  const root = document.documentElement;
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = make("button", { type: "button", class: "theme" });
  const label = () => { theme.textContent = dark() ? "Light page" : "Dark page"; };
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  label();
  document.querySelector("nav").append(theme);

  // Values of points: by the pointer, by touch, and by the arrow keys in a focused figure.
  const tip = make("div", { class: "tip", role: "status", "aria-live": "polite", hidden: "" });
  document.body.append(tip);
  let lit = null;
  const hide = () => { tip.hidden = true; if (lit) lit.classList.remove("lit"); lit = null; };
  const show = (point) => {
    hide();
    lit = point;
    point.classList.add("lit");
    tip.textContent = point.dataset.says;
    tip.hidden = false;
    const at = point.getBoundingClientRect();
    const size = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - size.width / 2), innerWidth - size.width - 8);
    const above = at.top - size.height - 10;
    tip.style.left = `${Math.max(8, left) + scrollX}px`;
    tip.style.top = `${(above > 8 ? above : at.bottom + 10) + scrollY}px`;
  };
  for (const plot of document.querySelectorAll(".panel > svg")) {
    const points = [];
    for (const title of plot.querySelectorAll("path > title, rect > title")) {
      const point = title.parentElement;
      point.dataset.says = title.textContent;
      title.remove();
      points.push(point);
      point.classList.add("point");
      point.addEventListener("pointerenter", () => show(point));
      point.addEventListener("pointerleave", hide);
      point.addEventListener("click", () => show(point));
    }
    if (points.length === 0) continue;
    plot.setAttribute("tabindex", "0");
    plot.addEventListener("focus", () => show(points[0]));
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      const at = points.indexOf(lit);
      show(points[(at + step + points.length) % points.length]);
    });
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // Tables sort by the column whose title is pressed: up, down, and as they were.
  const number = (text) => {
    const plain = text.replace(/[,\s]/g, "").replace("\u2212", "-").match(/^[-+\u00d7]?(\d.*?)(?:predicted|\(.*)?$/);
    if (!plain) return null;
    const value = Number((text.trim().startsWith("\u2212") ? "-" : "") + plain[1]);
    return Number.isNaN(value) ? null : value;
  };
  const sortable = (table) => {
    const body = table.tBodies[0];
    const original = [...body.rows];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const next = now === "ascending" ? "descending" : now === "descending" ? null : "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        if (next) head.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        const key = (row) => row.cells[column].textContent;
        const rows = next === null ? original : [...original].sort((a, b) => {
          const [x, y] = [number(key(a)), number(key(b))];
          if (x !== null && y !== null) return sign * (x - y);
          // What has no number stands last either way.
          if (x !== null || y !== null) return x !== null ? -1 : 1;
          return sign * key(a).localeCompare(key(b));
        });
        body.append(...rows);
      });
    });
  };
  const tables = [...document.querySelectorAll("#cells table")];
  tables.forEach(sortable);

  // One filter for all of them.
  if (tables.length > 0) {
    const box = make("p", { class: "filter" });
    const name = make("label", { for: "filter" }, "Show cells with ");
    const field = make("input", { id: "filter", type: "search", placeholder: "model, dataset or tokens" });
    const count = make("span", { role: "status", "aria-live": "polite" });
    box.append(name, field, " ", count);
    document.querySelector("#cells h2").after(box);
    const apply = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const table of tables) {
        shown = 0;
        for (const row of table.tBodies[0].rows) {
          const text = row.textContent.toLowerCase().replace(/,/g, "");
          row.hidden = !words.every((word) => text.includes(word.replace(/,/g, "")));
          if (!row.hidden) shown += 1;
        }
      }
      count.textContent = words.length === 0 ? "" : `${shown} of ${tables[0].tBodies[0].rows.length}`;
    };
    field.addEventListener("input", apply);
  }
})();
