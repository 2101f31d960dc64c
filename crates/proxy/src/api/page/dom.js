// Elements. Whatever comes from data becomes text, never markup.

/**
 * The element of the page with this id.
 * @param {string} id
 * @returns {any}
 */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * A new element.
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/**
 * A new element of a drawing.
 * @param {string} tag
 * @param {Record<string, string | number>} [attributes]
 */
function draw(tag, attributes = {}) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  return node;
}

/**
 * Shows `text` in a node. One that shows it already is left alone, so that nothing is selected or read anew.
 * @param {Node} node
 * @param {string | number | null | undefined} text
 */
function say(node, text) {
  const said = String(text ?? '');
  if (node.textContent !== said) node.textContent = said;
}

/**
 * @param {HTMLElement} node
 * @param {boolean} isShown
 */
function show(node, isShown) {
  if (node.hidden === isShown) node.hidden = !isShown;
}

/**
 * @param {HTMLElement} node
 * @param {string} tone
 */
function tint(node, tone) {
  if (node.dataset.tone !== tone) node.dataset.tone = tone;
}

/**
 * Shows a time: local, with UTC to point at. Nothing for null.
 * @param {any} node a `time` element
 * @param {string | null | undefined} iso
 * @param {(at: number) => string} words
 */
function sayTime(node, iso, words) {
  const at = iso ? Date.parse(iso) : NaN;
  if (Number.isNaN(at)) {
    say(node, '');
    node.removeAttribute('datetime');
    node.removeAttribute('title');
    return;
  }
  say(node, words(at));
  if (node.dateTime !== iso) {
    node.dateTime = iso;
    node.title = `${localTime(at, 0)} = ${utcTime(at)}`;
  }
}

/**
 * A cell of a table. Where the table is too wide, its label stands before it.
 * @param {string} label
 * @param {...(Node | string)} children
 */
function cell(label, ...children) {
  return make('td', { role: 'cell', 'data-label': label }, ...children);
}
