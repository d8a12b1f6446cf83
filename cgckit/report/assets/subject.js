"use strict";

// The rating of one subject, and the way to its neighbours.
{
  const ratings = new Ratings();
  const form = document.getElementById("rating");
  const id = form.dataset.id;

  function show() {
    const { rating, note } = ratings.of(id);
    form.elements.rating.value = rating;
    if (document.activeElement !== form.elements.note) form.elements.note.value = note;
    for (const link of document.querySelectorAll("a[href$='.html'], a[href*='.html#']")) ratings.handOn(link);
  }

  function rate(rating) {
    ratings.set(id, { rating });
    show();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", ({ target }) => {
    ratings.set(id, target.name === "note" ? { note: target.value } : { rating: target.value });
    show();
  });
  document.getElementById("clear").addEventListener("click", () => rate(""));

  const KEYS = {
    g: () => rate("good"),
    d: () => rate("doubtful"),
    b: () => rate("bad"),
    n: () => document.getElementById("next")?.click(),
    p: () => document.getElementById("previous")?.click(),
  };
  document.addEventListener("keydown", (event) => {
    const isTyped = event.target.matches("input[type=text], select") || event.ctrlKey || event.metaKey || event.altKey;
    const areUsed = document.querySelector("input[name=keys]")?.checked ?? true;
    const act = KEYS[event.key.toLowerCase()];
    if (act && areUsed && !isTyped) {
      event.preventDefault();
      act();
    }
  });
  form.hidden = false;
  show();
}
