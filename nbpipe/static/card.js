// @ts-check
/**
 * The card under a running cell. Python draws its regions; this file puts them in place without taking focus, scroll
 * or open details from the reader, keeps time between two messages, follows the log, and sends what is asked.
 * A plain module for anywidget: no build, no dependency.
 *
 * @typedef {{get(name: string): any, on(event: string, hear: () => void): void, off(event?: string | null, hear?: any):
 *   void, send(content: object): void}} Model
 * @typedef {[label: string, took: string, since: number | null, why: string]} Detail
 * @typedef {{names?: string[], needs?: number[][], svg?: string, list?: boolean}} Graph
 * @typedef {{letters: string, details: Map<number, Detail>, lines: string[], numbers: {[name: string]: number}}} Store
 */

const REGIONS = ["head", "note", "facts", "progress", "error", "metrics", "outputs", "actions", "answer"];
const AT_END = 24;
const ORPHANED = "The kernel of this card is gone. Run %load_ext nbpipe, or this cell, to see how it went on.";

export default () => {
  /** @type {Store} */
  const store = { letters: "", details: new Map(), lines: [], numbers: {} };
  return {
    /** Keep what travels as differences, whether anything is shown or not. @param {{model: Model}} given */
    initialize({ model }) {
      takeDetails(model, store);
      takeLog(model, store);
      model.on("change:details", () => takeDetails(model, store));
      model.on("change:log", () => takeLog(model, store));
    },
    /** @param {{model: Model, el: HTMLElement}} given */
    render({ model, el }) {
      return new View(model, el, store).remove;
    },
  };
};

/**
 * Say whether a difference can be added to what is here; if not, all is asked for.
 * @param {Model} model @param {Store} store @param {string} name @param {any} told
 */
function follows(model, store, name, told) {
  const before = store.numbers[name] ?? 0;
  store.numbers[name] = told.number;
  if (told.whole || told.number === before + 1) return true;
  if (told.number !== before) model.send({ ask: "all" });
  return false;
}

/** @param {Model} model @param {Store} store */
function takeDetails(model, store) {
  const told = model.get("details");
  if (!told?.number || !follows(model, store, "details", told)) return;
  if (told.whole) store.details.clear();
  for (const [place, detail] of Object.entries(told.set)) store.details.set(Number(place), detail);
}

/** @param {Model} model @param {Store} store */
function takeLog(model, store) {
  const told = model.get("log");
  if (!told?.number || !follows(model, store, "log", told)) return;
  const kept = told.whole ? [] : store.lines.slice(told.drop, told.drop + told.keep);
  store.lines = kept.concat(told.add);
}

/** Get a length of time in the words that Python uses. @param {number} seconds */
function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/**
 * Get an element.
 * @param {string} tag @param {{[name: string]: string}} [attributes] @param {(Node | string)[]} children
 */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Get the drawing of a status. @param {string} path */
function shape(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "nbpipe-icon");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/**
 * Replace a region; what the reader had opened, focused or scrolled stays so.
 * @param {HTMLElement} node @param {string} html
 */
function place(node, html) {
  const root = /** @type {Document | ShadowRoot} */ (node.getRootNode());
  const active = /** @type {HTMLElement | null} */ (root.activeElement);
  const key = active && node.contains(active) ? keyOf(active) : null;
  /** @type {Map<string, [boolean, number, number]>} */
  const kept = new Map();
  for (const part of /** @type {NodeListOf<HTMLDetailsElement>} */ (node.querySelectorAll("details[data-key]"))) {
    const inside = part.querySelector(":scope > :not(summary)");
    kept.set(part.dataset.key ?? "", [part.open, inside?.scrollTop ?? 0, inside?.scrollLeft ?? 0]);
  }
  node.innerHTML = html;
  node.hidden = !html;
  for (const part of /** @type {NodeListOf<HTMLDetailsElement>} */ (node.querySelectorAll("details[data-key]"))) {
    const [open, top, left] = kept.get(part.dataset.key ?? "") ?? [part.open, 0, 0];
    part.open = open;
    part.querySelector(":scope > :not(summary)")?.scrollTo(left, top);
  }
  if (key === null) return;
  const again = [...node.querySelectorAll("button, summary, a")].find((other) => keyOf(other) === key);
  /** @type {HTMLElement | undefined} */ (again)?.focus({ preventScroll: true });
}

/** Get what an element is known by in the region that replaces its own. @param {Element} element */
function keyOf(element) {
  const closest = /** @type {HTMLElement | null} */ (element.closest("[data-action], [data-key]"));
  return closest?.dataset.action ?? closest?.dataset.key ?? element.textContent;
}

class View {
  /** @param {Model} model @param {HTMLElement} el @param {Store} store */
  constructor(model, el, store) {
    this.model = model;
    this.store = store;
    this.skew = 0;
    /** @type {"graph" | "list" | null} */
    this.mode = null;
    this.filter = "";
    /** @type {string | null} */
    this.only = null;
    this.shown = { letters: "", drawn: /** @type {any} */ (null), names: /** @type {string[]} */ ([]) };
    /** @type {{[name: string]: HTMLElement}} */
    this.parts = {};
    this.card = this.skeleton();
    el.append(this.card);
    this.listen();
    this.timer = setInterval(() => this.tick(), 1000);
    for (const name of REGIONS) this.region(name);
    this.setClock();
    this.drawMap();
    this.drawLog();
    this.tick();
  }

  remove = () => {
    clearInterval(this.timer);
    for (const [event, hear] of this.hears ?? []) this.model.off(event, hear);
  };

  skeleton() {
    for (const name of REGIONS) this.parts[name] = make("div", { class: `nbpipe-${name}` });
    this.parts.answer.setAttribute("aria-live", "polite");
    this.parts.count = make("span", { class: "nbpipe-count", role: "status", "aria-live": "polite" });
    this.parts.search = make("input", {
      type: "search", class: "nbpipe-search", placeholder: "Find a step", "aria-label": "find a step",
    });
    this.parts.chips = make("div", { class: "nbpipe-chips", role: "group", "aria-label": "show only" });
    this.parts.modes = make(
      "div", { class: "nbpipe-modes", role: "group", "aria-label": "view of the steps" },
      make("button", { type: "button", "data-mode": "graph" }, "Graph"),
      make("button", { type: "button", "data-mode": "list" }, "List"),
    );
    this.parts.bar = make("div", { class: "nbpipe-tools" }, this.parts.search, this.parts.chips, this.parts.modes);
    this.parts.graph = make("div", { class: "nbpipe-sheet" });
    this.parts.list = make("div", { class: "nbpipe-list", role: "listbox", "aria-label": "steps" });
    this.parts.map = make("div", { class: "nbpipe-map" }, this.parts.bar, this.parts.graph, this.parts.list);
    this.parts.lines = make("pre", { class: "nbpipe-lines", tabindex: "0", "aria-label": "newest output" });
    this.parts.log = make(
      "details", { class: "nbpipe-log", open: "" }, make("summary", {}, "Output"), this.parts.lines,
    );
    const { head, count, note, map, facts, progress, error, metrics, log, outputs, actions, answer } = this.parts;
    return make(
      "section", { class: "nbpipe-card", role: "region", "aria-label": "nbpipe" },
      make("header", { class: "nbpipe-top" }, head, count), note, map,
      make("div", { class: "nbpipe-body" }, facts, error, progress, metrics, log, outputs), actions, answer,
    );
  }

  listen() {
    /** @type {[string, () => void][]} */
    this.hears = [
      ["change:clock", () => this.setClock()],
      ["change:count", () => this.setCount()],
      ["change:statuses", () => this.drawStatuses()],
      ["change:details", () => this.drawStatuses()],
      ["change:chosen", () => this.drawChosen()],
      ["change:graph", () => this.drawMap()],
      ["change:log", () => this.drawLog()],
      // Said once, when the kernel is started again or gone: nothing that is sent comes back from then on.
      ["comm_live_update", () => this.orphaned()],
      ...REGIONS.map((name) => /** @type {[string, () => void]} */ ([`change:${name}`, () => this.region(name)])),
    ];
    for (const [event, hear] of this.hears) this.model.on(event, hear);
    this.card.addEventListener("click", (event) => this.clicked(event));
    this.parts.map.addEventListener("keydown", (event) => this.pressed(event));
    this.parts.search.addEventListener("input", () => {
      this.filter = /** @type {HTMLInputElement} */ (this.parts.search).value.trim().toLowerCase();
      this.drawFilter();
    });
    this.setCount();
  }

  /** Say that this card goes on no more; what the run does is shown by the kernel that comes next. */
  orphaned() {
    clearInterval(this.timer);
    this.card.classList.add("nbpipe-orphaned");
    this.parts.note.hidden = false;
    this.parts.note.textContent = ORPHANED;
    this.parts.actions.hidden = true;
    this.parts.answer.hidden = true;
  }

  /** @param {string} name */
  region(name) {
    place(this.parts[name], this.model.get(name));
    this.tick(this.parts[name]);
  }

  setCount() {
    const told = this.model.get("count");
    if (this.parts.count.textContent !== told) this.parts.count.textContent = told;
  }

  setClock() {
    const kernel = this.model.get("clock");
    if (kernel) this.skew = Date.now() / 1000 - kernel;
  }

  /** Have time go on. @param {HTMLElement} within */
  tick(within = this.card) {
    const now = Date.now() / 1000 - this.skew;
    for (const clock of /** @type {NodeListOf<HTMLElement>} */ (within.querySelectorAll("[data-since]"))) {
      const told = duration(now - Number(clock.dataset.since));
      if (clock.textContent !== told) clock.textContent = told;
    }
  }

  // The steps, as a graph or as a list

  drawMap() {
    const { names = [], svg = "", list = false } = /** @type {Graph} */ (this.model.get("graph") ?? {});
    this.parts.map.hidden = names.length < 2;
    this.mode ??= names.length ? (list ? "list" : "graph") : null;
    if (this.shown.drawn !== svg) {
      this.parts.graph.innerHTML = svg;
      this.shown.drawn = svg;
    }
    if (this.shown.names.join("\n") !== names.join("\n")) this.drawRows(names);
    this.shown.letters = "";
    this.drawMode();
    this.drawStatuses();
    this.drawChosen();
  }

  drawMode() {
    const graph = this.mode === "graph";
    this.parts.graph.hidden = !graph;
    this.parts.list.hidden = graph;
    this.parts.search.hidden = graph;
    for (const button of this.parts.modes.children) {
      button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.mode === this.mode));
    }
  }

  /** @param {string[]} names */
  drawRows(names) {
    this.shown.names = names;
    this.parts.list.replaceChildren(
      ...names.map((name, place) =>
        make(
          "div", { class: "nbpipe-row", role: "option", tabindex: "-1", "data-step": String(place) },
          shape(""), make("span", { class: "nbpipe-row-name" }, name), make("span", { class: "nbpipe-row-status" }),
          make("span", { class: "nbpipe-row-time" }), make("span", { class: "nbpipe-row-why" }),
        ),
      ),
    );
  }

  /** Bring boxes and rows up to date, those that have changed. */
  drawStatuses() {
    const letters = this.model.get("statuses");
    const marks = this.model.get("marks");
    const told = this.model.get("details")?.set ?? {};
    const whole = !this.shown.letters || this.model.get("details")?.whole;
    for (let place = 0; place < letters.length; place++) {
      if (!whole && letters[place] === this.shown.letters[place] && !(place in told)) continue;
      const [status, path] = marks[letters[place]] ?? ["queued", ""];
      const detail = this.store.details.get(place) ?? [status, "", null, ""];
      this.drawStep(place, status, path, detail);
    }
    this.shown.letters = letters;
    this.drawChips(letters, marks);
    this.drawFilter();
    this.tick(this.parts.map);
  }

  /** @param {number} place @param {string} status @param {string} path @param {Detail} detail */
  drawStep(place, status, path, [told, took, since, why]) {
    const label = `${this.shown.names[place]}: ${status}`;
    for (const node of this.nodes(place)) {
      node.setAttribute("data-status", status);
      node.setAttribute("aria-label", label);
      (node.querySelector(".nbpipe-shape") ?? node.querySelector(".nbpipe-icon path"))?.setAttribute("d", path);
      const title = node.querySelector("title");
      if (title) title.textContent = why ? `${label}\n${why}` : label;
      const words = node.querySelector(".nbpipe-detail");
      if (words) words.textContent = told;
      const row = node.querySelector(".nbpipe-row-status");
      if (row) row.textContent = status;
      const time = /** @type {HTMLElement | null} */ (node.querySelector(".nbpipe-row-time"));
      if (time) {
        time.textContent = took;
        if (since === null) delete time.dataset.since;
        else time.dataset.since = String(since);
      }
      const reason = node.querySelector(".nbpipe-row-why");
      if (reason) reason.textContent = why;
    }
  }

  /** Get what stands for a step: its box and its row. @param {number} place @returns {Element[]} */
  nodes(place) {
    return [...this.parts.graph.querySelectorAll(`[data-step="${place}"]`), this.parts.list.children[place]].filter(
      Boolean,
    );
  }

  /** @param {string} letters @param {{[letter: string]: [string, string]}} marks */
  drawChips(letters, marks) {
    /** @type {{[letter: string]: number}} */
    const counts = {};
    for (const letter of letters) counts[letter] = (counts[letter] ?? 0) + 1;
    const told = Object.keys(marks).filter((letter) => counts[letter]);
    const key = told.map((letter) => `${letter}${counts[letter]}`).join() + this.only;
    if (this.parts.chips.dataset.key === key) return;
    this.parts.chips.dataset.key = key;
    const chips = told.map((letter) => {
      const [status, path] = marks[letter];
      const pressed = String(this.only === status);
      return make(
        "button", { type: "button", class: "nbpipe-chip", "data-only": status, "data-status": status,
          "aria-pressed": pressed, "data-key": status }, shape(path), `${counts[letter]} ${status}`,
      );
    });
    const holder = make("div", {}, ...chips);
    place(this.parts.chips, holder.innerHTML);
  }

  /** Leave out rows, and let boxes fade, that are not looked for. */
  drawFilter() {
    if (this.mode === "graph") {
      for (const box of this.parts.graph.querySelectorAll(".nbpipe-node")) {
        box.toggleAttribute("data-faded", this.only !== null && box.getAttribute("data-status") !== this.only);
      }
      return;
    }
    for (const row of /** @type {HTMLCollectionOf<HTMLElement>} */ (this.parts.list.children)) {
      const name = this.shown.names[Number(row.dataset.step)].toLowerCase();
      row.hidden = !name.includes(this.filter) || (this.only !== null && row.dataset.status !== this.only);
    }
  }

  drawChosen() {
    const chosen = this.model.get("chosen");
    const name = this.shown.names[chosen];
    this.card.setAttribute("aria-label", name ? `nbpipe: ${name}` : "nbpipe");
    for (const node of this.card.querySelectorAll("[data-step]")) {
      const own = Number(node.getAttribute("data-step")) === chosen;
      node.setAttribute(node.getAttribute("role") === "option" ? "aria-selected" : "aria-pressed", String(own));
      node.setAttribute("tabindex", own || (chosen < 0 && node.getAttribute("data-step") === "0") ? "0" : "-1");
    }
    for (const line of this.parts.graph.querySelectorAll(".nbpipe-line")) {
      const near = [line.getAttribute("data-from"), line.getAttribute("data-to")].includes(String(chosen));
      line.toggleAttribute("data-lit", near);
    }
  }

  // The log

  drawLog() {
    const pane = this.parts.lines;
    const atEnd = pane.scrollHeight - pane.scrollTop - pane.clientHeight < AT_END;
    this.parts.log.hidden = !this.store.lines.length;
    pane.textContent = this.store.lines.join("\n");
    if (atEnd || this.model.get("log")?.whole) pane.scrollTop = pane.scrollHeight;
  }

  // What is asked

  /** @param {Event} event */
  clicked(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const button = /** @type {HTMLButtonElement | null} */ (target.closest("button"));
    if (button?.dataset.action) {
      this.model.send({ ask: button.dataset.action, step: button.dataset.for });
      button.disabled = button.dataset.action === "cancel";
    } else if (button?.dataset.mode) {
      this.chooseMode(/** @type {"graph" | "list"} */ (button.dataset.mode));
    } else if (button?.dataset.only) {
      this.only = this.only === button.dataset.only ? null : button.dataset.only;
      this.drawStatuses();
    } else {
      const step = target.closest("[data-step]");
      if (step) this.choose(Number(step.getAttribute("data-step")));
    }
  }

  /** @param {"graph" | "list"} mode */
  chooseMode(mode) {
    this.mode = mode;
    if (mode === "graph" && !this.model.get("graph").svg) this.model.send({ ask: "graph" });
    this.drawMode();
    this.drawFilter();
  }

  /** @param {number} place */
  choose(place) {
    const name = this.shown.names[place];
    if (name !== undefined) this.model.send({ ask: "choose", step: name });
  }

  /** Walk along the graph's lines or the list's rows. @param {KeyboardEvent} event */
  pressed(event) {
    const at = /** @type {HTMLElement} */ (event.target).closest?.("[data-step]");
    if (!at || event.altKey || event.ctrlKey || event.metaKey) return;
    const place = Number(at.getAttribute("data-step"));
    if (event.key === "Enter" || event.key === " ") this.choose(place);
    else {
      const next = this.mode === "graph" ? this.along(place, event.key) : this.beside(at, event.key);
      if (!next) return;
      /** @type {HTMLElement} */ (next).focus();
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /** Get the box that an arrow key leads to. @param {number} place @param {string} key @returns {Element | null} */
  along(place, key) {
    const needs = /** @type {number[][]} */ (this.model.get("graph").needs);
    const box = (/** @type {number} */ step) => this.parts.graph.querySelector(`.nbpipe-node[data-step="${step}"]`);
    if (key === "ArrowLeft") return box(needs[place][0] ?? -1);
    if (key === "ArrowRight") return box(needs.findIndex((others) => others.includes(place)));
    if (key !== "ArrowUp" && key !== "ArrowDown") return null;
    const own = /** @type {Element} */ (box(place)).getBoundingClientRect();
    const down = key === "ArrowDown" ? 1 : -1;
    const others = [...this.parts.graph.querySelectorAll(".nbpipe-node")]
      .map((node) => ({ node, rect: node.getBoundingClientRect() }))
      .filter(({ rect }) => Math.abs(rect.left - own.left) < own.width / 2 && (rect.top - own.top) * down > 1)
      .sort((a, b) => (a.rect.top - b.rect.top) * down);
    return others[0]?.node ?? null;
  }

  /** Get the row above or below that is shown. @param {Element} row @param {string} key @returns {Element | null} */
  beside(row, key) {
    if (key !== "ArrowUp" && key !== "ArrowDown") return null;
    let next = /** @type {HTMLElement | null} */ (row);
    do {
      next = /** @type {HTMLElement | null} */ (
        key === "ArrowDown" ? next?.nextElementSibling : next?.previousElementSibling
      );
    } while (next?.hidden);
    return next ?? null;
  }
}
