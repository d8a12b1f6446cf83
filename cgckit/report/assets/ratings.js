"use strict";

/** What the reader thinks of each subject: good, doubtful or bad, with a note. Kept in this browser, under the run's key. */
class Ratings {
  static WORDS = ["good", "doubtful", "bad"];
  static #HAND = "#ratings=";

  constructor() {
    this.subjects = JSON.parse(document.getElementById("subjects").textContent);
    this.place = `cgckit-ratings:${document.body.dataset.key}`;
    this.isKept = true;
    this.all = {};
    this.#merge(this.#stored());
    this.#receive();
  }

  /** `{rating, note, time}` of a subject; empty texts where there is none. */
  of(id) {
    return this.all[id] ?? { rating: "", note: "", time: "" };
  }

  set(id, change) {
    this.#merge(this.#stored()); // another tab may have rated meanwhile
    this.all[id] = { ...this.of(id), ...change, time: new Date().toISOString() };
    this.#store();
  }

  /** How many subjects are rated. */
  count() {
    return this.subjects.filter(({ id }) => this.of(id).rating).length;
  }

  /** The table that `--exclude` reads. */
  toTsv() {
    const clean = (text) => text.replace(/\s+/g, " ").trim();
    const rated = this.subjects.filter(({ id }) => this.of(id).rating || this.of(id).note);
    const lines = rated.map(({ id, source }) => {
      const { rating, note, time } = this.of(id);
      return [id, source, rating || "n/a", clean(note) || "n/a", time].join("\t");
    });
    return ["participant_id\tsource\trating\tnote\trated_at", ...lines].join("\n") + "\n";
  }

  /** Take over what `toTsv` wrote; what is newer here stays. Gives how many subjects of this run it names. */
  readTsv(text) {
    const [head, ...rows] = text.split(/\r?\n/).filter(Boolean).map((line) => line.split("\t"));
    const cell = (row, name) => {
      const value = row[head.indexOf(name)] ?? "";
      return value === "n/a" ? "" : value;
    };
    const known = new Set(this.subjects.map(({ id }) => id));
    const found = rows.filter((row) => known.has(cell(row, "participant_id")));
    this.#merge(Object.fromEntries(found.map((row) => [cell(row, "participant_id"), {
      rating: cell(row, "rating"), note: cell(row, "note"), time: cell(row, "rated_at"),
    }])));
    this.#store();
    return found.length;
  }

  /** Some browsers keep what each file:// page stores to itself: links between pages hand the ratings on. */
  handOn(link) {
    if (location.protocol !== "file:") return;
    const page = link.getAttribute("href").split("#")[0];
    link.setAttribute("href", page + Ratings.#HAND + encodeURIComponent(JSON.stringify(this.all)));
  }

  #receive() {
    if (!location.hash.startsWith(Ratings.#HAND)) return;
    try {
      this.#merge(JSON.parse(decodeURIComponent(location.hash.slice(Ratings.#HAND.length))));
      this.#store();
    } catch { /* a link that was cut short: what this page stores still stands */ }
    history.replaceState(null, "", location.pathname);
  }

  #merge(others) {
    for (const [id, other] of Object.entries(others ?? {})) {
      const isOne = other && ["", ...Ratings.WORDS].includes(other.rating) && typeof other.note === "string";
      if (isOne && String(other.time) > this.of(id).time) {
        this.all[id] = { rating: other.rating, note: other.note, time: String(other.time) };
      }
    }
  }

  #stored() {
    try {
      return JSON.parse(localStorage.getItem(this.place) ?? "{}");
    } catch {
      this.isKept = false;
      return {};
    }
  }

  #store() {
    try {
      localStorage.setItem(this.place, JSON.stringify(this.all));
    } catch {
      this.isKept = false;
      document.getElementById("kept").textContent = "This browser keeps no ratings: export them before the page is closed.";
    }
  }
}
