// The accounts: search, order, pages, and the operator's switch.

/** @typedef {(left: Account, right: Account) => number} Order */

/** @param {Account} account */
function fullness({ inFlight, maxJobs }) {
  return inFlight / Math.max(1, maxJobs);
}

/**
 * The orders, by the value of `#accounts-order`. Those that are equal stay in list order.
 * @type {Record<string, {compare: Order, direction: string}>}
 */
const ORDERS = {
  worst: {
    compare: (left, right) => stateOf(left.state).rank - stateOf(right.state).rank || fullness(right) - fullness(left),
    direction: 'descending',
  },
  list: { compare: () => 0, direction: 'none' },
  name: {
    compare: (left, right) => (left.email < right.email ? -1 : Number(left.email > right.email)),
    direction: 'ascending',
  },
  fullest: { compare: (left, right) => fullness(right) - fullness(left), direction: 'descending' },
  failed: { compare: (left, right) => (right.jobs?.failed ?? 0) - (left.jobs?.failed ?? 0), direction: 'descending' },
  next: {
    compare: (left, right) => (left.nextFreeInMs ?? Infinity) - (right.nextFreeInMs ?? Infinity) || 0,
    direction: 'ascending',
  },
};

/** What slots are used by: the member, the words for it, and the look in the bar. */
const USES = /** @type {const} */ ([
  { member: 'held', words: 'ours', look: 'ours' },
  { member: 'uncertain', words: 'uncertain', look: 'uncertain' },
  { member: 'foreignJobs', words: 'of other tools', look: 'foreign' },
]);

/** @param {Account} account */
function usesOf(account) {
  const uses = USES.filter(({ member }) => account[member] > 0);
  return uses.map(({ member, words }) => `${number(account[member])} ${words}`).join(', ');
}

/** The slots of an account as a bar. Its words stand beside it. */
class Bar {
  constructor() {
    this.parts = USES.map(({ look }) => make('span', { class: look }));
    this.node = make('div', { class: 'bar', 'aria-hidden': 'true' }, ...this.parts);
  }

  /** @param {Account} account */
  update(account) {
    const whole = Math.max(1, account.maxJobs, account.inFlight);
    USES.forEach(({ member }, i) => {
      this.parts[i].style.width = `${(100 * account[member]) / whole}%`;
    });
  }
}

/** A row of the table of accounts. */
class AccountRow {
  /**
   * @param {AccountsView} view
   * @param {Account} account
   */
  constructor(view, account) {
    this.view = view;
    this.email = account.email;
    this.alias = make('span', { class: 'minor' });
    this.bar = new Bar();
    this.slots = make('span');
    this.uses = make('span', { class: 'minor' });
    this.state = make('span', { class: 'tag' });
    this.since = make('time', { class: 'minor' });
    this.until = make('time', { class: 'minor' });
    this.reason = make('span');
    this.refusal = make('span', { class: 'minor quote' });
    this.jobs = make('span');
    this.failedJobs = make('span', { class: 'minor', 'data-tone': 'bad' });
    this.otherJobs = make('span', { class: 'minor' });
    this.median = make('span', { class: 'minor' });
    this.next = make('span');
    this.drain = this.#button('Drain', 'drain');
    this.resume = this.#button('Resume', 'resume');
    this.node = make(
      'tr', { role: 'row' },
      make('th', { role: 'rowheader', scope: 'row', 'data-label': 'Account' }, account.email, this.alias),
      cell('Slots in use', this.bar.node, this.slots, this.uses),
      cell('State', this.state, this.since, this.until),
      cell('Why', this.reason, this.refusal),
      cell('Jobs', this.jobs, this.failedJobs, this.otherJobs, this.median),
      cell('Next slot', this.next),
      cell('Switch', this.drain, this.resume),
    );
  }

  /**
   * @param {string} word
   * @param {string} action
   */
  #button(word, action) {
    const button = make('button', { type: 'button', 'aria-label': `${word} ${this.email}` }, word);
    button.addEventListener('click', () => this.view.change(this.email, action));
    return button;
  }

  /** @param {Account} account */
  update(account) {
    say(this.alias, account.alias);
    this.bar.update(account);
    say(this.slots, `${number(account.inFlight)} of ${number(account.maxJobs)}`);
    say(this.uses, usesOf(account));
    this.#updateState(account);
    this.#updateJobs(account);
    say(this.next, this.#nextSlot(account));
    this.#updateButtons(account.state);
  }

  /** @param {Account} account */
  #nextSlot({ state, nextFreeInMs }) {
    if (state === 'available') return 'now';
    if (typeof nextFreeInMs !== 'number') return state === 'full' ? 'not known' : '';
    return forecast(nextFreeInMs, this.view.toldAt, this.view.clock.now());
  }

  /** @param {Account} account */
  #updateState({ state, since, until, reason, lastRefusal }) {
    const { clock } = this.view;
    const { word, tone } = stateOf(state);
    say(this.state, word);
    tint(this.state, tone);
    sayTime(this.since, since, (at) => `for ${span(clock.now() - at)}`);
    sayTime(this.until, until, (at) => `${span(at - clock.now())} more`);
    say(this.reason, reason);
    const status = lastRefusal?.status ? `${lastRefusal.status}, ` : '';
    say(this.refusal, lastRefusal
      ? `Last refusal, ${status}${span(clock.since(lastRefusal.at))} ago: “${lastRefusal.text}”` : '');
  }

  /** @param {Account} account */
  #updateJobs({ email, jobs }) {
    const median = this.view.durations.median(email);
    say(this.median, median === null ? '' : `median ${span(median)}`);
    say(this.jobs, jobs ? `${number(jobs.started)} started` : '');
    say(this.failedJobs, jobs?.failed ? `${number(jobs.failed)} failed` : '');
    const others = jobs ? /** @type {const} */ (['succeeded', 'unknown', 'moved']).filter((name) => jobs[name]) : [];
    say(this.otherJobs, others.map((name) => `${number(jobs?.[name] ?? 0)} ${name}`).join(', '));
  }

  /** @param {string} state */
  #updateButtons(state) {
    const { mayChange } = this.view;
    const canResume = ['draining', 'cooling', 'quarantined', 'parked'].includes(state);
    const canDrain = state !== 'draining' && state !== 'removed';
    const focused = document.activeElement;
    show(this.drain, mayChange && canDrain);
    show(this.resume, mayChange && canResume);
    // The button that was pressed may be gone: the other one undoes it.
    if (focused === this.drain && this.drain.hidden) this.resume.focus();
    if (focused === this.resume && this.resume.hidden) this.drain.focus();
    for (const button of [this.drain, this.resume]) setDisabled(button, this.view.isGone);
  }
}

/** The table of accounts. */
class AccountsView {
  mayChange = true;
  isGone = false;
  /** When the accounts were told, by the sidecar's clock. */
  toldAt = 0;
  durations = new Durations();
  /** @type {Account[]} */
  #accounts = [];
  /** The e-mails on the page, in order. @type {string[]} */
  #shown = [];

  /**
   * @param {Clock} clock
   * @param {(email: string, action: string) => void} change
   */
  constructor(clock, change) {
    this.clock = clock;
    this.change = (/** @type {string} */ email, /** @type {string} */ action) => {
      if (!this.isGone) change(email, action);
    };
    this.rows = new Rows(byId('accounts-rows'), (account) => new AccountRow(this, account));
    this.pager = new Pager('accounts-pages', () => this.#choose());
    this.search = byId('accounts-search');
    this.order = byId('accounts-order');
    this.search.addEventListener('input', () => this.pager.turnTo(0));
    this.order.addEventListener('change', () => this.pager.turnTo(0));
    /** @type {HTMLElement[]} */
    this.heads = [...byId('accounts').querySelectorAll('thead button')];
    for (const button of this.heads) {
      button.addEventListener('click', () => this.#orderBy(button.dataset.order ?? 'worst'));
    }
  }

  /** @param {Status} status */
  show({ accounts, events }) {
    this.#accounts = accounts;
    this.durations.note(events);
    if (this.#isInUse() && this.#shown.length) this.#refresh();
    else this.#choose();
  }

  /** @param {string} order */
  #orderBy(order) {
    this.order.value = order;
    this.pager.turnTo(0);
  }

  /** Whether someone may be about to press a button, which must not be another account's by then. */
  #isInUse() {
    const body = byId('accounts-rows');
    return body.contains(document.activeElement) || body.matches(':hover');
  }

  /** Shows the same accounts as before, in the same order. */
  #refresh() {
    const shown = new Set(this.#shown);
    const found = new Map(this.#accounts.filter(({ email }) => shown.has(email)).map((it) => [it.email, it]));
    this.#fill(this.#shown.flatMap((email) => found.get(email) ?? []));
    say(byId('accounts-count'), this.#count(this.#found().length));
  }

  #found() {
    const wanted = this.search.value.trim().toLowerCase();
    return this.#accounts.filter((account) => AccountsView.#matches(account, wanted));
  }

  /** Shows those that are searched for, in the order that is asked for. */
  #choose() {
    const found = this.#found();
    const { compare, direction } = ORDERS[this.order.value];
    this.#fill(this.pager.pageOf(found.sort(compare)));
    say(byId('accounts-count'), this.#count(found.length));
    for (const button of this.heads) {
      const isSorted = button.dataset.order === this.order.value;
      button.parentElement?.setAttribute('aria-sort', isSorted ? direction : 'none');
    }
  }

  /** @param {number} found */
  #count(found) {
    const all = this.#accounts.length;
    /** @type {Map<string, number>} */
    const states = new Map();
    for (const { state } of this.#accounts) states.set(state, (states.get(state) ?? 0) + 1);
    const sorted = [...states].sort(([left], [right]) => stateOf(left).rank - stateOf(right).rank);
    const told = sorted.map(([state, count]) => `${number(count)} ${stateOf(state).word}`).join(', ');
    const matching = found === all ? '' : `${number(found)} match. `;
    return all ? `${matching}${counted(all, 'account', 'accounts')}: ${told}.` : 'No account is known yet.';
  }

  /** @param {Account[]} accounts */
  #fill(accounts) {
    this.#shown = accounts.map(({ email }) => email);
    this.rows.show(accounts, ({ email }) => email);
  }

  /**
   * @param {Account} account
   * @param {string} wanted
   */
  static #matches({ email, alias, state, reason }, wanted) {
    return !wanted || [email, alias, state, reason ?? ''].some((text) => text.toLowerCase().includes(wanted));
  }
}
