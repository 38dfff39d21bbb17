"use strict";
/* The page apart from its figures: tables that sort, filter and widen, theme, copying, reloading. */
const page = {
  data(name) {
    const element = document.getElementById(`data-${name}`);
    return element ? JSON.parse(element.textContent) : null;
  },
  /* What a person chose is kept over a reload; a page in a frame may have no storage. */
  keep(name, value) {
    try { sessionStorage.setItem(location.pathname + name, value); } catch (error) { /* none */ }
  },
  kept(name) {
    try { return sessionStorage.getItem(location.pathname + name); } catch (error) { return null; }
  },
  make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  },
};

(function theme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const printing = matchMedia("print");
  const button = document.querySelector("button.theme");
  let chosen = page.kept("theme");
  function apply() {
    const name = printing.matches ? "light" : chosen || (dark.matches ? "dark" : "light");
    root.dataset.theme = name;
    if (button) button.textContent = name === "dark" ? "Light" : "Dark";
  }
  button?.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    page.keep("theme", chosen);
    apply();
  });
  dark.addEventListener("change", apply);
  printing.addEventListener("change", apply);
  apply();
})();

(function tables() {
  const text = (html) => {
    const holder = document.createElement("div");
    holder.innerHTML = html;
    return holder.textContent.trim();
  };
  /* The number a cell begins with, else null. */
  const number = (cell) => {
    const found = /^[+-]?[\d,]*\.?\d+(e[+-]?\d+)?/i.exec(cell);
    return found ? Number(found[0].replaceAll(",", "")) : null;
  };
  const missing = (cell) => cell === "" || cell === "n/a" || cell === "none";
  function compare(a, b, sign) {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const [x, y] = [number(a), number(b)];
    if (x !== null && y !== null && x !== y) return sign * (x - y);
    return sign * a.localeCompare(b, undefined, { numeric: true });
  }
  page.table = set_up;
  for (const box of document.querySelectorAll(".table")) set_up(box);

  function set_up(box) {
    const table = box.querySelector("table"), body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const stored = box.querySelector("script.rows");
    const written = () => [...body.rows].map((row) => [...row.cells].map((cell) => cell.innerHTML));
    const rows = (stored ? JSON.parse(stored.textContent) : written())
      .map((cells) => ({ cells, texts: null, all: null }));
    const most = Number(box.dataset.shown);
    const texts = (row) => (row.texts ??= row.cells.map(text));
    const all = (row) => (row.all ??= texts(row).join(" ").toLowerCase());
    let wanted = "", everything = false;
    const tools = page.make("div", { className: "tools" });
    const count = page.make("span", { className: "count" });
    const more = page.make("button", { type: "button" });
    if (rows.length > 8) {
      const filter = page.make("input", { type: "search", placeholder: "Filter rows" });
      filter.setAttribute("aria-label", "Filter rows");
      filter.addEventListener("input", () => { wanted = filter.value.toLowerCase(); draw(); });
      tools.append(filter);
    }
    if (box.dataset.wide) {
      const wide = page.make("button", { type: "button", textContent: "All columns" });
      wide.setAttribute("aria-pressed", "false");
      wide.addEventListener("click", () => {
        const on = box.classList.toggle("all");
        wide.textContent = on ? "Fewer columns" : "All columns";
        wide.setAttribute("aria-pressed", String(on));
      });
      tools.append(wide);
    }
    more.addEventListener("click", () => { everything = !everything; draw(); });
    tools.append(more, count);
    box.prepend(tools);
    heads.forEach((head, place) => head.firstChild.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = before === first ? other : first;
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((a, b) => compare(texts(a)[place], texts(b)[place], sign));
      draw();
    }));
    function draw() {
      const found = wanted ? rows.filter((row) => all(row).includes(wanted)) : rows;
      const shown = everything ? found : found.slice(0, most);
      const classes = heads.map((head) => head.className);
      body.innerHTML = shown.map((row) => "<tr>" + row.cells.map(
        (cell, i) => `<td class="${classes[i]}">${cell}</td>`).join("") + "</tr>").join("");
      more.hidden = found.length <= most;
      more.textContent = everything ? "Fewer rows" : `All ${found.length.toLocaleString("en")} rows`;
      count.hidden = !wanted && found.length <= most;
      count.textContent = `${shown.length.toLocaleString("en")} of`
        + ` ${rows.length.toLocaleString("en")} rows`;
    }
    draw();
  }
})();

(function copying() {
  for (const box of document.querySelectorAll(".listing")) {
    const button = page.make("button", { type: "button", textContent: "Copy" });
    button.addEventListener("click", async () => {
      const text = box.querySelector("pre").textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch (error) {
        getSelection().selectAllChildren(box.querySelector("pre"));
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    box.append(button);
  }
})();

(function reloading() {
  const seconds = Number(document.documentElement.dataset.reload || 0);
  if (!seconds) return;
  const place = page.kept("scroll");
  if (place) scrollTo({ top: Number(place), behavior: "instant" });
  setTimeout(() => { page.keep("scroll", String(scrollY)); location.reload(); }, 1000 * seconds);
})();
