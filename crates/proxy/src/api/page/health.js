// The health line, the figures below it, and whether the sidecar may be restarted.

/** Shows health. */
class HealthView {
  /** @param {Clock} clock */
  constructor(clock) {
    this.clock = clock;
    this.reasons = new Rows(byId('restart-because'), () => {
      const node = make('li');
      return { node, update: (/** @type {string} */ text) => say(node, text) };
    });
  }

  /**
   * Says what is read aloud, so only when it changes.
   * @param {string} words
   * @param {string} tone
   */
  announce(words, tone) {
    const line = byId('health');
    say(line, words);
    tint(line, tone);
  }

  /**
   * @param {Status} status
   * @param {number} toldAt when the sidecar told it
   */
  show(status, toldAt) {
    const { ready, reasons, slots } = status;
    this.announce(ready ? 'Ready: jobs can be started.' : `Not ready: ${reasons.join('; ')}`, ready ? 'good' : 'bad');
    document.title = `${ready ? 'Ready' : 'Not ready'} · ${slots.inFlight} of ${slots.max} · kling-balancer`;
    this.#showSidecar(status);
    this.#showFigures(status);
    this.#showNextSlot(status.accounts, toldAt);
    say(byId('restart'), status.restart.isSafe ? 'Yes' : 'No');
    tint(byId('restart'), status.restart.isSafe ? 'good' : 'warn');
    this.reasons.show(status.restart.isSafe ? [] : status.restart.because, (_reason, place) => place);
  }

  /** @param {Status} status */
  #showSidecar({ version, instance, role, upSince }) {
    say(byId('instance'), instance);
    say(byId('version'), `version ${version}`);
    say(byId('role'), role === 'single' ? '' : role);
    sayTime(byId('up-since'), upSince, () => `up for ${span(this.clock.since(upSince))}`);
  }

  /** @param {Status} status */
  #showFigures({ slots, waiting, list, round, upstream }) {
    say(byId('slots-now'), `${number(slots.inFlight)} of ${number(slots.max)}`);
    byId('slots-meter').max = Math.max(1, slots.max);
    byId('slots-meter').value = slots.inFlight;
    say(byId('waiting-now'), number(waiting.count));
    sayTime(byId('waiting-oldest'), waiting.oldestSince, (at) => `the longest for ${this.#ageOf(at)}`);
    this.#showSource('list', list.fetchedAt, list.error);
    this.#showSource('round', round?.sentAt, round?.error);
    say(byId('upstream-now'), upstream.isReachable ? 'reachable' : 'cannot be reached');
    tint(byId('upstream-now'), upstream.isReachable ? 'good' : 'bad');
  }

  /**
   * Tells when a slot is expected to be free, where none is now.
   * @param {Account[]} accounts
   * @param {number} toldAt
   */
  #showNextSlot(accounts, toldAt) {
    const isNoneFree = accounts.every(({ state }) => state !== 'available');
    const full = accounts.filter(({ state }) => state === 'full');
    const next = Math.min(...full.map(({ nextFreeInMs }) => nextFreeInMs ?? Infinity));
    const isTold = isNoneFree && Number.isFinite(next);
    say(byId('slots-next'), isTold ? `the next is free ${forecast(next, toldAt, this.clock.now())}` : '');
  }

  /** @param {number} at */
  #ageOf(at) {
    return span(Math.max(0, this.clock.now() - at));
  }

  /**
   * @param {string} name
   * @param {string | null | undefined} at
   * @param {string | null | undefined} error
   */
  #showSource(name, at, error) {
    sayTime(byId(`${name}-at`), at, (then) => `${this.#ageOf(then)} ago`);
    if (!at) say(byId(`${name}-at`), 'never');
    say(byId(`${name}-error`), error);
    tint(byId(`${name}-at`), error ? 'bad' : '');
  }
}
