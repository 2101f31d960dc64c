// What happened, newest first.

/** Types of events that a person should see. */
const BAD_EVENTS = new Set([
  'submission-lost', 'answer-undelivered', 'not-ready', 'token-rejected', 'upstream-unreachable', 'list-failed',
  'rounds-failed', 'state-failing',
]);

/** @param {SidecarEvent} event */
function isBad({ type, to, result }) {
  return BAD_EVENTS.has(type) || result === 'failed' || (type === 'account-state' && stateOf(to ?? '').tone === 'bad');
}

/**
 * The accounts that a list change names, with their slots.
 * @param {string} word
 * @param {ListedAccount[] | undefined} accounts
 * @param {number | undefined} count the first of them are named
 */
function listed(word, accounts, count) {
  if (!accounts?.length) return [];
  const named = accounts.map(({ email, maxJobs, from, to }) => {
    if (maxJobs !== undefined) return `${email} (${maxJobs})`;
    return to === undefined ? email : `${email} (${from} → ${to})`;
  });
  const more = (count ?? 0) - accounts.length;
  return [`${word}: ${named.join(', ')}${more > 0 ? ` and ${number(more)} more` : ''}`];
}

/**
 * What an event tells beside its message.
 * @param {SidecarEvent} event
 */
function detailsOf(event) {
  return [
    ...listed('added', event.added, event.addedCount),
    ...listed('removed', event.removed, event.removedCount),
    ...listed('changed', event.changed, event.changedCount),
    event.operation,
    event.taskId && `task ${event.taskId}`,
    typeof event.durationMs === 'number' && `took ${span(event.durationMs)}`,
    event.client && `client ${event.client}`,
    event.requestId && `request ${event.requestId}`,
  ].filter(Boolean).join(' · ');
}

/** The list of events. */
class EventsView {
  /** @param {Clock} clock */
  constructor(clock) {
    this.clock = clock;
    this.rows = new Rows(byId('events-list'), (event) => this.#row(event));
  }

  /** @param {SidecarEvent[]} events oldest first */
  show(events) {
    this.rows.show([...events].reverse(), ({ id }) => id);
    show(byId('events-none'), events.length === 0);
  }

  /** @param {SidecarEvent} event */
  #row(event) {
    const time = make('time', { class: 'minor' });
    const tag = make('span', { class: 'tag' }, event.type.replaceAll('-', ' '));
    tint(tag, isBad(event) ? 'bad' : '');
    const details = make('span', { class: 'minor' }, detailsOf(event));
    const update = () => sayTime(time, event.at, (then) => localTime(then, this.clock.now()));
    return { node: make('li', {}, time, tag, make('p', {}, event.message, ' ', details)), update };
  }
}
