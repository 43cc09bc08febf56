// What a page does beyond its links: theme, instant sorting and filtering, the steps of an episode.
// Nothing is fetched; every page reads without this file.
(() => {
  "use strict";
  const root = document.documentElement;
  const themes = ["system", "light", "dark"];
  const stored = (value) => {
    try {
      if (value === undefined) return localStorage.getItem("theme");
      localStorage.setItem("theme", value);
    } catch { /* Storage may be forbidden; the theme then lasts for one page. */ }
    return value;
  };
  const setTheme = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  setTheme(stored());

  function themeButton() {
    const button = document.getElementById("theme");
    if (!button) return;
    let theme = themes.includes(stored()) ? stored() : "system";
    const show = () => { button.textContent = "Theme: " + theme; };
    button.hidden = false;
    show();
    button.addEventListener("click", () => {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      stored(theme);
      setTheme(theme);
      show();
    });
  }

  // Sorting. A heading with a link sorts here only where all rows are on the page.
  const value = (row, column, isNumber) => {
    const text = row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
    if (text === "") return null;
    return isNumber ? Number(text) : text.toLowerCase();
  };
  function sort(table, heading, isDescending) {
    const column = heading.cellIndex;
    const isNumber = heading.dataset.sort === "number";
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, column, isNumber), row]);
    rows.sort(([a, x], [b, y]) => {
      if (a === null || b === null) return (a === null) - (b === null) || x.dataset.k - y.dataset.k;
      const order = a < b ? -1 : a > b ? 1 : 0;
      return (isDescending ? -order : order) || x.dataset.k - y.dataset.k;
    });
    body.append(...rows.map(([, row]) => row));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
  }
  function sortable(table) {
    [...table.tBodies[0].rows].forEach((row, k) => { row.dataset.k = row.dataset.k ?? k; });
    for (const heading of table.tHead.rows[0].cells) {
      if (!heading.dataset.sort) continue;
      let control = heading.querySelector("a");
      if (control && table.dataset.complete !== "yes") continue;
      if (!control) {
        control = document.createElement("button");
        control.type = "button";
        control.append(...heading.childNodes);
        heading.append(control);
      }
      control.addEventListener("click", (event) => {
        event.preventDefault();
        const now = heading.getAttribute("aria-sort");
        const isDescending = now ? now === "ascending" : heading.dataset.first === "desc";
        sort(table, heading, isDescending);
        remember({ sort: heading.dataset.key, desc: isDescending ? "1" : "" });
      });
    }
  }
  function remember(changes) {
    const asked = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value) asked.set(name, value);
      else asked.delete(name);
    }
    const query = asked.toString();
    try {
      history.replaceState(null, "", location.pathname + (query ? "?" + query : "") + location.hash);
    } catch { /* A page from disk may not change its address. */ }
  }

  // Filters of a board whose rows are all here.
  function filters(form, table) {
    const rows = [...table.tBodies[0].rows];
    const status = document.getElementById("shown");
    const apply = () => {
      const text = form.elements.q.value.trim().toLowerCase();
      const track = form.elements.track?.value ?? "";
      const level = form.elements.level?.value ?? "";
      let shown = 0;
      for (const row of rows) {
        const fits = row.dataset.text.includes(text)
          && (!track || row.dataset.track === track)
          && (!level || Number(row.dataset.level || -1) >= Number(level));
        row.hidden = !fits;
        shown += fits;
      }
      if (status) status.textContent = shown + " of " + rows.length + " runs";
      remember({ q: text, track, level });
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
    form.querySelector("button")?.setAttribute("hidden", "");
    return apply;
  }
  function board() {
    const table = document.querySelector("table[data-board]");
    const form = document.querySelector("form.filter");
    if (!table || !form || table.dataset.complete !== "yes") return;
    const apply = filters(form, table);
    // A page from disk is always written in the order of the board: the question is answered here.
    const asked = new URLSearchParams(location.search);
    for (const name of ["q", "track", "level"]) {
      if (asked.get(name) && form.elements[name]) form.elements[name].value = asked.get(name);
    }
    const key = asked.get("sort");
    const heading = key && [...table.tHead.rows[0].cells].find((cell) => cell.dataset.key === key);
    if (heading) sort(table, heading, asked.get("desc") === "1");
    if (["q", "track", "level"].some((name) => asked.get(name))) apply();
  }
  function compareButton() {
    const button = document.getElementById("compare");
    if (!button) return;
    const boxes = [...document.querySelectorAll('input[name="run"]')];
    const check = () => {
      const chosen = boxes.filter((box) => box.checked).length;
      button.disabled = chosen !== 2;
      for (const box of boxes) box.disabled = chosen >= 2 && !box.checked;
    };
    document.addEventListener("change", check);
    check();
  }

  // The steps of an episode: one slider moves every mark.
  function player(block) {
    const slider = block.querySelector("input[type=range]");
    const output = block.querySelector("output");
    const rows = [...document.querySelectorAll("tr[data-step]")];
    if (!slider || !rows.length) return;
    const points = [...document.querySelectorAll("svg.path .way, svg.curve")].map((drawing) => ({
      marks: [...drawing.querySelectorAll("[data-mark]")],
      places: drawing.querySelector("polyline").getAttribute("points").split(" ").map((pair) => pair.split(",")),
    }));
    const show = () => {
      const step = Number(slider.value);
      for (const { marks, places } of points) {
        const [x, y] = places[Math.min(step, places.length - 1)];
        for (const mark of marks) {
          if (mark.tagName === "line") { mark.setAttribute("x1", x); mark.setAttribute("x2", x); }
          else { mark.setAttribute("cx", x); mark.setAttribute("cy", y); }
        }
      }
      rows.forEach((row) => row.classList.toggle("current", Number(row.dataset.step) === step));
      output.textContent = rows[step]?.dataset.say ?? "";
    };
    block.querySelectorAll("[hidden]").forEach((part) => { part.hidden = false; });
    slider.addEventListener("input", show);
    show();
  }

  document.addEventListener("DOMContentLoaded", () => {
    themeButton();
    document.querySelectorAll("table[data-sortable]").forEach(sortable);
    board();
    compareButton();
    document.querySelectorAll("[data-player]").forEach(player);
  });
})();
