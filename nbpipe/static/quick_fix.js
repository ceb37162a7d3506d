// @ts-check
/**
 * A button beside an error: it writes the mended declaration into the cell above, and what belongs to it into other
 * cells of the notebook, which are found by their texts. Where an editor cannot be reached, or another cell has been
 * changed, nothing is written, and the mended texts are shown to be copied.
 *
 * @typedef {{get(name: string): any, send(content: object): void}} Model
 * @typedef {{before: string, after: string}} Edit
 */

export default () => ({
  /** @param {{model: Model, el: HTMLElement}} given */
  render({ model, el }) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "nbpipe-mend";
    button.textContent = model.get("label");
    button.addEventListener("click", () => {
      const [source, others] = [model.get("source"), model.get("others")];
      if (write(el, source, others)) model.send({ done: true });
      else show(el, button, [source, ...others.map((/** @type {Edit} */ edit) => edit.after)]);
    });
    el.append(button);
  },
});

/**
 * Put texts into the editors of the cell that an element is below, and of other cells; false if one is not found.
 * @param {HTMLElement} el @param {string} source @param {Edit[]} others
 */
function write(el, source, others) {
  const cell = el.closest(".jp-Cell");
  const own = editor(cell);
  const root = cell?.closest(".jp-Notebook") ?? document;
  const views = [...root.querySelectorAll(".jp-Cell")].map(editor).filter((view) => view && view !== own);
  const found = others.map(({ before }) => views.filter((view) => text(view) === before.trimEnd()));
  if (!own || found.some((matches) => matches.length !== 1)) return false;
  others.forEach(({ after }, at) => replace(found[at][0], after));
  replace(own, source);
  own.focus();
  return true;
}

/** @param {Element | null} cell */
function editor(cell) {
  const content = /** @type {any} */ (cell?.querySelector(".cm-content"));
  const view = content?.cmTile?.view ?? content?.cmView?.view;
  return view?.dispatch ? view : null;
}

/** @param {any} view */
function text(view) {
  return view.state.doc.toString().trimEnd();
}

/** @param {any} view @param {string} source */
function replace(view, source) {
  view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: source } });
}

/** @param {HTMLElement} el @param {HTMLElement} button @param {string[]} texts */
function show(el, button, texts) {
  const panes = texts.map((each) => {
    const pane = document.createElement("textarea");
    pane.readOnly = true;
    pane.value = each;
    pane.rows = Math.min(20, each.split("\n").length + 1);
    pane.className = "nbpipe-mended";
    return pane;
  });
  el.replaceChildren(...panes);
  button.remove();
  panes[0].select();
}
