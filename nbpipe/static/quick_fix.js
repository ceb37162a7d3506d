// @ts-check
/**
 * A button beside an error: it writes the mended declaration into the cell above. Where the cell's editor cannot be
 * reached, the mended text is shown to be copied.
 *
 * @typedef {{get(name: string): any, send(content: object): void}} Model
 */

export default () => ({
  /** @param {{model: Model, el: HTMLElement}} given */
  render({ model, el }) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "nbpipe-mend";
    button.textContent = model.get("label");
    button.addEventListener("click", () => {
      if (write(el, model.get("source"))) model.send({ done: true });
      else show(el, button, model.get("source"));
    });
    el.append(button);
  },
});

/**
 * Put a text into the editor of the cell that an element is below; false where there is none.
 * @param {HTMLElement} el @param {string} text
 */
function write(el, text) {
  const content = /** @type {any} */ (el.closest(".jp-Cell")?.querySelector(".cm-content"));
  const view = content?.cmTile?.view ?? content?.cmView?.view;
  if (!view?.dispatch) return false;
  view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
  view.focus();
  return true;
}

/** @param {HTMLElement} el @param {HTMLElement} button @param {string} text */
function show(el, button, text) {
  const pane = document.createElement("textarea");
  pane.readOnly = true;
  pane.value = text;
  pane.rows = Math.min(20, text.split("\n").length + 1);
  pane.className = "nbpipe-mended";
  el.replaceChildren(pane);
  button.remove();
  pane.select();
}
