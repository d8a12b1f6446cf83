"use strict";

// The group page: filters, sorts, rates. Without it the page is the whole table in the order of the run.
{
  const ratings = new Ratings();
  const table = document.getElementById("table");
  const rows = [...table.tBodies[0].rows];
  const cards = [...document.querySelectorAll(".gallery article")];
  const search = document.getElementById("search");
  const show = document.getElementById("show");
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;

  const KINDS = {
    all: () => true,
    warnings: (row) => row.dataset.warnings > 0,
    remarks: (row) => row.dataset.remarks > 0,
    unusual: (row) => row.dataset.unusual > 0,
    unrated: (row) => !ratings.of(row.dataset.id).rating,
  };
  const rated = (row) => ratings.of(row.dataset.id).rating === show.value;

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const isShown = (row) => {
      const text = `${row.dataset.id} ${row.textContent}`.toLowerCase();
      return (KINDS[show.value] ?? rated)(row) && words.every((word) => text.includes(word));
    };
    const shown = new Set(rows.filter(isShown).map((row) => row.dataset.id));
    for (const item of [...rows, ...cards]) item.hidden = !shown.has(item.dataset.id);
    const count = `${shown.size} of ${rows.length} shown, ${ratings.count()} rated`;
    document.getElementById("count").textContent = count;
  }

  function value(row, name) {
    if (name === "remarks") return 1000 * row.dataset.warnings + 1 * row.dataset.remarks + row.dataset.unusual / 1000;
    if (name === "rating") return Ratings.WORDS.indexOf(ratings.of(row.dataset.id).rating);
    return row.querySelector(`[data-column=${name}]`).textContent.trim();
  }

  function order(one, other) {
    const [a, b] = [parseFloat(one), parseFloat(other)];
    if (typeof one === "string" && (Number.isNaN(a) || Number.isNaN(b))) return compare(one, other);
    return a - b;
  }

  function sort(head, name) {
    const isDown = head.ariaSort === "ascending" || (!head.ariaSort && name === "remarks");
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    const sorted = rows.map((row) => [name === "subject" ? `_${value(row, name)}` : value(row, name), row]);
    sorted.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : (isDown ? -1 : 1) * order(a, b)));
    table.tBodies[0].append(...sorted.map(([, row]) => row));
    const places = new Map(sorted.map(([, row], index) => [row.dataset.id, index]));
    cards.sort((a, b) => places.get(a.dataset.id) - places.get(b.dataset.id));
    document.querySelector(".gallery").append(...cards);
  }

  function showRatings() {
    for (const item of [...rows, ...cards]) {
      const { rating, note } = ratings.of(item.dataset.id);
      const choice = item.querySelector("select.rating");
      if (choice) choice.value = rating;
      const text = item.querySelector(".note, .rated");
      text.textContent = item.tagName === "TR" ? note : rating;
    }
    for (const link of document.querySelectorAll("a[href^=sub-]")) ratings.handOn(link);
    filter();
  }

  function choose(id) {
    for (const item of document.querySelectorAll("[data-id]")) {
      item.classList.toggle("chosen", item.dataset.id === id && !item.matches("select"));
    }
    rows.find((row) => row.dataset.id === id)?.scrollIntoView({ block: "center" });
  }

  for (const button of table.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => sort(button.closest("th"), button.dataset.sort));
  }
  search.addEventListener("input", filter);
  show.addEventListener("change", filter);
  table.addEventListener("change", ({ target }) => {
    ratings.set(target.dataset.id, { rating: target.value });
    showRatings();
  });
  const names = new Map(ratings.subjects.map(({ id, source }) => [id, source]));
  for (const dot of document.querySelectorAll(".plots circle")) {
    const name = document.createElementNS("http://www.w3.org/2000/svg", "title");
    name.textContent = names.get(dot.dataset.id);
    dot.append(name);
    dot.addEventListener("click", () => choose(dot.dataset.id));
  }
  document.getElementById("export").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([ratings.toTsv()], { type: "text/tab-separated-values" }));
    link.download = "ratings.tsv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.getElementById("import").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    if (!file) return;
    const found = ratings.readTsv(await file.text());
    showRatings();
    document.getElementById("count").textContent = `${found} ratings read from ${file.name}`;
    target.value = "";
  });
  window.addEventListener("pageshow", showRatings); // also when it is come back to
  window.addEventListener("storage", () => location.reload());
  document.querySelector(".controls").hidden = false;
}
