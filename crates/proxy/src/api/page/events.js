// What happened, newest first.

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
  #row({ at, type, message, to }) {
    const time = make('time', { class: 'minor' });
    const tag = make('span', { class: 'tag' }, type.replaceAll('-', ' '));
    const isBad = BAD_EVENTS.has(type) || (type === 'account-state' && stateOf(to ?? '').tone === 'bad');
    tint(tag, isBad ? 'bad' : '');
    const update = () => sayTime(time, at, (then) => localTime(then, this.clock.now()));
    return { node: make('li', {}, time, tag, make('span', {}, message)), update };
  }
}
