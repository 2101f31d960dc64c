// The page as a whole: what it does with answers, and what its buttons do.

/** The page. */
class App {
  sidecar = new Sidecar();
  /** @type {Status | null} */
  status = null;
  /** When the last answer came, by the sidecar's clock. */
  #answeredAt = 0;
  #mayChange = true;

  constructor() {
    const { clock } = this.sidecar;
    this.watch = new Watch(this.sidecar, this);
    this.health = new HealthView(clock);
    this.history = new HistoryView(clock);
    this.accounts = new AccountsView(clock, (email, action) => this.#switchAccount(email, action));
    this.slots = new SlotsView(clock, (lease) => this.#askToRelease(lease));
    this.calls = new CallsView(this.sidecar);
    this.events = new EventsView(clock);
    byId('token-form').addEventListener('submit', (/** @type {Event} */ event) => this.#takeToken(event));
    byId('forget').addEventListener('click', () => this.#forget());
  }

  run() {
    return this.watch.run();
  }

  /**
   * @param {Status | null} status
   * @param {string | null} access
   */
  fresh(status, access) {
    const isFirst = !this.status;
    this.status = status ?? this.status;
    this.#answeredAt = this.sidecar.clock.now();
    if (status) this.accounts.toldAt = this.#answeredAt;
    this.#mayChange = access ? access === 'full' : this.#mayChange;
    this.#setGone(false);
    this.#showParts(true);
    this.#draw();
    if (isFirst) this.calls.ask();
  }

  /** @param {string} why */
  gone(why) {
    this.#setGone(true);
    if (this.status) {
      const { clock } = this.sidecar;
      this.health.announce(`No answer from the sidecar since ${localTime(this.#answeredAt, clock.now())}: ${why}. ${
        'What is below was true then. It is asked again every second.'}`, 'bad');
      document.title = 'No answer · kling-balancer';
      this.#showButtons();
    } else {
      this.health.announce(`The sidecar does not tell its status yet: ${why}`, 'bad');
    }
  }

  locked() {
    const wasKnown = this.sidecar.token.value !== '';
    this.sidecar.token.value = '';
    this.status = null;
    this.#showParts(false);
    this.health.announce(wasKnown ? 'This token is not known here.' : 'The sidecar wants a token.', 'warn');
    byId('token').focus();
  }

  #draw() {
    if (!this.status) return;
    this.#showButtons(false);
    this.health.show(this.status, this.accounts.toldAt);
    this.history.show(this.status);
    this.accounts.show(this.status);
    this.slots.show(this.status);
    this.events.show(this.status.events);
  }

  /** @param {boolean} isGone */
  #setGone(isGone) {
    byId('picture').classList.toggle('gone', isGone);
    this.accounts.isGone = isGone;
    this.slots.isGone = isGone;
  }

  /** Shows which buttons can be used. @param {boolean} [isDrawn] whether the tables are to be drawn for it */
  #showButtons(isDrawn = true) {
    this.accounts.mayChange = this.#mayChange;
    this.slots.mayChange = this.#mayChange;
    show(byId('forget'), this.sidecar.token.value !== '');
    show(byId('read-only'), !this.#mayChange);
    document.body.classList.toggle('read-only', !this.#mayChange);
    if (isDrawn && this.status) {
      this.accounts.show(this.status);
      this.slots.show(this.status);
    }
  }

  /** @param {boolean} isOpen whether the sidecar tells us anything */
  #showParts(isOpen) {
    show(byId('picture'), isOpen);
    show(byId('sections'), isOpen);
    show(byId('token-form'), !isOpen);
    show(byId('forget'), isOpen && this.sidecar.token.value !== '');
  }

  /** @param {Event} event */
  #takeToken(event) {
    event.preventDefault();
    this.sidecar.token.value = byId('token').value.trim();
    byId('token').value = '';
    this.#mayChange = true;
    this.watch.restart();
  }

  #forget() {
    this.sidecar.token.value = '';
    this.watch.restart();
  }

  /**
   * @param {string} email
   * @param {string} action
   */
  async #switchAccount(email, action) {
    const answer = await this.#change('POST', `accounts/${encodeURIComponent(email)}/${action}`);
    if (!answer || !this.status) return;
    const changed = answer.body;
    this.status.accounts = this.status.accounts.map((known) => (known.email === email ? changed : known));
    this.accounts.show(this.status);
    this.#notice(`${email}: ${action === 'drain' ? 'gets no more jobs; those that run go on.' : 'is used again.'}`);
  }

  /** @param {Lease} lease */
  #askToRelease(lease) {
    const dialog = byId('release');
    say(byId('release-what'), `${lease.email}, ${lease.taskId ? `task ${lease.taskId}` : 'no job known'}, held for ${
      span(this.sidecar.clock.since(lease.createdAt))}`);
    dialog.returnValue = '';
    dialog.onclose = () => {
      if (dialog.returnValue === 'release') this.#release(lease);
    };
    dialog.showModal();
  }

  /** @param {Lease} lease */
  async #release({ leaseId, email }) {
    const answer = await this.#change('DELETE', `leases/${encodeURIComponent(leaseId)}`);
    if (answer) this.#notice(`A slot of ${email} was released.`);
  }

  /**
   * Changes something and asks how it is now. Returns null if it was refused, and says why.
   * @param {string} method
   * @param {string} path
   */
  async #change(method, path) {
    try {
      const answer = await this.sidecar.ask(path, { method });
      if (answer.status < 300) return answer;
      // The token was taken for one that may do more.
      if (answer.body?.reason === 'read-only') {
        this.#mayChange = false;
        this.#showButtons();
      }
      this.#notice(`Refused: ${refusalOf(answer)}`);
    } catch (error) {
      this.#notice(`Not done: ${/** @type {Error} */ (error).message}`);
    } finally {
      this.watch.hurry();
    }
    return null;
  }

  /** @param {string} words */
  #notice(words) {
    say(byId('notice'), words);
  }
}

new App().run();
