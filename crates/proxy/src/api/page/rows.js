// Lists that are updated in place: a row keeps its elements, and with them focus and selection.

/**
 * Puts `nodes` into `parent`, in this order, and removes all others. The node that has the focus is not moved, since it
 * would lose it: the others are moved around it.
 * @param {HTMLElement} parent
 * @param {HTMLElement[]} nodes
 */
function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const node of [...parent.children]) {
    if (wanted.has(/** @type {HTMLElement} */ (node))) continue;
    const hadFocus = node.contains(document.activeElement);
    node.remove();
    // Else the next key would begin at the top of the page.
    if (hadFocus) parent.closest('section')?.querySelector('h2')?.focus({ preventScroll: true });
  }
  const fixed = Math.max(0, nodes.findIndex((node) => node.contains(document.activeElement)));
  if (nodes.length && nodes[fixed].parentNode !== parent) parent.append(nodes[fixed]);
  for (let i = fixed + 1; i < nodes.length; i += 1) {
    if (nodes[i - 1].nextElementSibling !== nodes[i]) nodes[i - 1].after(nodes[i]);
  }
  for (let i = fixed - 1; i >= 0; i -= 1) {
    if (nodes[i + 1].previousElementSibling !== nodes[i]) nodes[i + 1].before(nodes[i]);
  }
}

/**
 * The rows of a list, by key.
 * @template Item
 */
class Rows {
  /** @type {Map<unknown, {node: any, update: (item: Item) => void}>} */
  #rows = new Map();

  /**
   * @param {HTMLElement} parent
   * @param {(item: Item) => {node: any, update: (item: Item) => void}} build
   */
  constructor(parent, build) {
    this.parent = parent;
    this.build = build;
  }

  /**
   * Shows the items, whose keys differ.
   * @param {Item[]} items
   * @param {(item: Item, place: number) => unknown} keyOf
   */
  show(items, keyOf) {
    const rows = new Map();
    items.forEach((item, place) => {
      const key = keyOf(item, place);
      const row = this.#rows.get(key) ?? this.build(item);
      row.update(item);
      rows.set(key, row);
    });
    this.#rows = rows;
    arrange(this.parent, [...rows.values()].map((row) => row.node));
  }
}

/** How many rows are on a page. */
const PAGE_ROWS = 50;

/** The buttons that turn the pages of a list, and the words which part of it is shown. */
class Pager {
  #page = 0;

  /**
   * @param {string} id of an empty `nav`
   * @param {() => void} turned
   */
  constructor(id, turned) {
    this.nav = byId(id);
    this.where = make('span');
    this.before = make('button', { type: 'button' }, 'Previous');
    this.after = make('button', { type: 'button' }, 'Next');
    this.nav.append(this.before, this.where, this.after);
    this.before.addEventListener('click', () => this.turnTo(this.#page - 1));
    this.after.addEventListener('click', () => this.turnTo(this.#page + 1));
    this.turned = turned;
  }

  /** @param {number} page */
  turnTo(page) {
    this.#page = page;
    this.turned();
  }

  /**
   * The items of the page that is shown. The last page, if there are fewer than there were.
   * @template Item
   * @param {Item[]} items
   * @returns {Item[]}
   */
  pageOf(items) {
    const last = Math.max(0, Math.ceil(items.length / PAGE_ROWS) - 1);
    this.#page = Math.min(Math.max(0, this.#page), last);
    const first = this.#page * PAGE_ROWS;
    const shown = items.slice(first, first + PAGE_ROWS);
    show(this.nav, last > 0);
    say(this.where, `${number(first + 1)} to ${number(first + shown.length)} of ${number(items.length)}`);
    setDisabled(this.before, this.#page === 0);
    setDisabled(this.after, this.#page === last);
    return shown;
  }
}

/**
 * Says that a button does nothing now. It keeps the focus, as a disabled one would not.
 * @param {HTMLElement} button
 * @param {boolean} isDisabled
 */
function setDisabled(button, isDisabled) {
  if (button.ariaDisabled !== String(isDisabled)) button.ariaDisabled = String(isDisabled);
}
