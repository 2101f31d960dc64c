// What became of calls, asked for when someone searches.

/** How far back calls are shown if nothing is searched for. */
const RECENT_MS = 10 * 60_000;
/** How far back failed ones are: as long as the sidecar keeps them. */
const KEPT_MS = 24 * 3_600_000;

/** Those that have a job, or may get one. @type {Set<string>} */
const GOOD_OUTCOMES = new Set(['waiting', 'submitting', 'accepted']);

/** @param {Job} job */
function isFailed({ outcome, result }) {
  return result === 'failed' || !GOOD_OUTCOMES.has(outcome);
}

/** The search for calls. */
class CallsView {
  /** @type {Job[]} */
  #jobs = [];
  #asked = 0;

  /** @param {Sidecar} sidecar */
  constructor(sidecar) {
    this.sidecar = sidecar;
    this.rows = new Rows(byId('calls-rows'), () => this.#row());
    this.pager = new Pager('calls-pages', () => this.#fill());
    byId('calls-form').addEventListener('submit', (/** @type {Event} */ event) => {
      event.preventDefault();
      this.ask();
    });
    this.onlyFailed = byId('calls-failed');
    this.onlyFailed.addEventListener('change', () => this.ask());
  }

  /** Shows what is searched for, or the recent calls. An answer that comes after a later search is not shown. */
  async ask() {
    const wanted = byId('calls-text').value.trim();
    const onlyFailed = this.onlyFailed.checked;
    const period = onlyFailed ? KEPT_MS : RECENT_MS;
    byId('calls-text').placeholder = `nothing: the last ${span(period)}`;
    const since = new Date(this.sidecar.clock.now() - period).toISOString();
    const [name, value] = wanted ? [byId('calls-by').value, wanted] : ['since', since];
    this.#asked += 1;
    const asked = this.#asked;
    say(byId('calls-count'), 'Asking …');
    const answer = await this.sidecar.ask(`jobs?${new URLSearchParams({ [name]: value })}`).catch(
      (/** @type {Error} */ error) => ({ status: 0, body: { error: error.message }, etag: null, access: null }),
    );
    if (asked !== this.#asked) return;
    /** @type {Job[]} */
    const jobs = answer.status === 200 ? answer.body.jobs : [];
    this.#jobs = onlyFailed ? jobs.filter(isFailed) : jobs;
    this.pager.turnTo(0);
    const now = this.sidecar.clock.now();
    const failed = onlyFailed ? `${number(this.#jobs.length)} failed of ` : '';
    const found = wanted ? 'found' : `in the last ${span(period)}`;
    const which = `${failed}${counted(jobs.length, 'call', 'calls')} ${found}`;
    say(byId('calls-count'), answer.status === 200 ? `${which}, as of ${localTime(now, now)}.` : refusalOf(answer));
  }

  #fill() {
    this.rows.show(this.pager.pageOf(this.#jobs), (_job, place) => place);
    show(byId('calls-table'), this.#jobs.length > 0);
  }

  #row() {
    const at = make('time');
    const [outcome, delivered, email, operation, client] = Array.from({ length: 5 }, () => make('span'));
    const [task, request] = [make('code'), make('code')];
    const update = (/** @type {Job} */ job) => {
      sayTime(at, job.at, (time) => localTime(time, this.sidecar.clock.now()));
      say(outcome, (OUTCOMES[job.outcome] ?? job.outcome) + (job.result ? `; the job ${job.result}` : ''));
      tint(outcome, job.outcome === 'uncertain' || job.result === 'failed' ? 'bad' : '');
      const isOver = job.outcome !== 'waiting' && job.outcome !== 'submitting';
      say(delivered, job.isDelivered ? 'yes' : isOver ? 'no: the client was gone' : 'not yet');
      tint(delivered, job.isDelivered || !isOver ? '' : 'bad');
      say(email, job.email);
      say(operation, job.operation);
      say(task, job.taskId);
      say(request, job.requestId);
      say(client, job.client);
    };
    const node = make(
      'tr', { role: 'row' },
      make('th', { role: 'rowheader', scope: 'row', 'data-label': 'Time' }, at),
      cell('Outcome', outcome),
      cell('Client has the answer', delivered),
      cell('Account', email),
      cell('Operation', operation),
      cell('Task', task),
      cell('Request', request),
      cell('Client', client),
    );
    return { node, update };
  }
}
