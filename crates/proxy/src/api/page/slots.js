// Who holds slots and who waits for one: leases beside the usual time of their operation, and the queue.

/** @type {Record<string, string>} */
const LEASE_STATES = {
  reserved: 'no job yet',
  bound: 'job runs',
  uncertain: 'lost: not known whether there is a job',
};

/** A row of the table of slots. */
class LeaseRow {
  /**
   * @param {SlotsView} view
   * @param {Lease} lease
   */
  constructor(view, lease) {
    this.view = view;
    this.age = make('time');
    this.meter = make('progress', { 'aria-label': 'Time against the usual', max: '1' });
    this.usual = make('span', { class: 'minor' });
    this.operation = make('span');
    this.state = make('span');
    this.expires = make('time', { class: 'minor' });
    this.task = make('code');
    this.client = make('span');
    this.request = make('code', { class: 'minor' });
    this.release = make('button', { type: 'button', 'aria-label': `Release the slot of ${lease.email}` }, 'Release…');
    this.release.addEventListener('click', () => view.release(lease));
    this.node = make(
      'tr', { role: 'row' },
      make('th', { role: 'rowheader', scope: 'row', 'data-label': 'Account' }, lease.email),
      cell('Held for', this.age, this.meter, this.usual),
      cell('Operation', this.operation),
      cell('State', this.state, this.expires),
      cell('Task', this.task),
      cell('Client', this.client, this.request),
      cell('Switch', this.release),
    );
  }

  /** @param {Lease} lease */
  update(lease) {
    const { clock, medians, mayChange, isGone } = this.view;
    const held = clock.since(lease.createdAt);
    const usual = medians[lease.operation ?? ''];
    sayTime(this.age, lease.createdAt, () => span(held));
    show(this.meter, Boolean(usual));
    this.meter.value = usual ? Math.min(1, held / usual) : 0;
    say(this.usual, usual ? `usually ${span(usual)}${held > 2 * usual ? ': late' : ''}` : '');
    tint(this.usual, usual && held > 2 * usual ? 'bad' : '');
    say(this.operation, lease.operation ?? 'picked, not carried');
    say(this.state, LEASE_STATES[lease.state] ?? lease.state);
    tint(this.state, lease.state === 'uncertain' ? 'bad' : '');
    sayTime(this.expires, lease.expiresAt, (at) => `${span(at - clock.now())} left at most`);
    say(this.task, lease.taskId);
    say(this.client, lease.client);
    say(this.request, lease.requestId);
    show(this.release, mayChange);
    setDisabled(this.release, isGone);
  }
}

/** The tables of slots, of usual times, and of the queue. */
class SlotsView {
  mayChange = true;
  isGone = false;
  /** @type {Record<string, number>} */
  medians = {};

  /**
   * @param {Clock} clock
   * @param {(lease: Lease) => void} release
   */
  constructor(clock, release) {
    this.clock = clock;
    this.release = (/** @type {Lease} */ lease) => {
      if (!this.isGone) release(lease);
    };
    this.leases = new Rows(byId('slots-rows'), (lease) => new LeaseRow(this, lease));
    this.waiters = new Rows(byId('queue-rows'), () => this.#waiterRow());
    this.usual = new Rows(byId('usual-rows'), SlotsView.#usualRow);
  }

  /** @param {Status} status */
  show({ accounts, leases, waiters, waiting, medianJobMs }) {
    this.medians = medianJobMs ?? {};
    this.leases.show(leases, ({ leaseId }) => leaseId);
    const held = accounts.reduce((sum, account) => sum + account.held + account.uncertain, 0);
    const foreign = accounts.reduce((sum, account) => sum + account.foreignJobs, 0);
    const part = leases.length < held ? ` The ${leases.length} oldest are shown.` : '';
    say(byId('slots-count'), `${held ? counted(held, 'slot is', 'slots are') : 'No slot is'} held here, and ${
      number(foreign)} in use by other tools.${part}`);
    show(byId('slots-table'), leases.length > 0);
    this.#showUsual();
    this.waiters.show(waiters, (_waiter, place) => place);
    show(byId('queue-table'), waiters.length > 0);
    const first = waiters.length < waiting.count ? ` The first ${waiters.length} are shown.` : '';
    say(byId('queue-count'), `${waiting.count ? counted(waiting.count, 'call waits', 'calls wait') : 'No call waits'
    } for a slot.${first}`);
  }

  #showUsual() {
    const usual = Object.entries(this.medians).sort(([left], [right]) => (left < right ? -1 : 1));
    show(byId('usual'), usual.length > 0);
    this.usual.show(usual, ([operation]) => operation);
  }

  /** @param {[string, number]} usual */
  static #usualRow([operation]) {
    const time = make('dd');
    const update = (/** @type {[string, number]} */ [, ms]) => say(time, span(ms));
    return { node: make('div', {}, make('dt', {}, operation), time), update };
  }

  #waiterRow() {
    const [place, operation, account, client] = [make('span'), make('span'), make('span'), make('span')];
    const [since, deadline] = [make('time'), make('time')];
    const update = (/** @type {Waiter} */ waiter) => {
      say(place, number(waiter.position));
      say(operation, waiter.operation ?? 'pick');
      say(account, waiter.email ?? 'any');
      say(client, waiter.client);
      sayTime(since, waiter.since, (at) => span(this.clock.now() - at));
      sayTime(deadline, waiter.deadline, (at) => `in ${span(at - this.clock.now())}`);
    };
    const node = make(
      'tr', { role: 'row' },
      make('th', { role: 'rowheader', scope: 'row', 'data-label': 'Position' }, place),
      cell('Waits for', since),
      cell('Gives up', deadline),
      cell('Wants account', account),
      cell('Operation', operation),
      cell('Client', client),
    );
    return { node, update };
  }
}
