// Calls to the sidecar: its clock, the token, and asking again and again.

/** How long an answer may take: with 10,000 accounts on a busy machine it takes a second. */
const ANSWER_MS_MAX = 10_000;
/** The time between an answer and the next question. */
const PAUSE_MS = 1000;
const TOKEN_KEY = 'kling-balancer token';

/** The sidecar's clock, as its answers tell it: this machine's may be wrong. */
class Clock {
  // What has to be added to our time lies between these two.
  #low = -Infinity;
  #high = Infinity;

  /**
   * Learns from the `Date` of an answer, which is cut to whole seconds.
   * @param {string | null} date
   * @param {number} sentAt
   * @param {number} gotAt
   */
  learn(date, sentAt, gotAt) {
    const told = date ? Date.parse(date) : NaN;
    if (Number.isNaN(told)) return;
    const [low, high] = [told - gotAt, told + 1000 - sentAt];
    // One of the clocks was set: what was known before counts no longer.
    const isSet = low > this.#high || high < this.#low;
    this.#low = isSet ? low : Math.max(low, this.#low);
    this.#high = isSet ? high : Math.min(high, this.#high);
  }

  now() {
    const isKnown = Number.isFinite(this.#low);
    return Date.now() + (isKnown ? (this.#low + this.#high) / 2 : 0);
  }

  /**
   * How long ago it was, in milliseconds.
   * @param {string} iso
   */
  since(iso) {
    return Math.max(0, this.now() - Date.parse(iso));
  }
}

/** The token of this tab. A browser may refuse to keep it; then it is gone when the page is left. */
class Token {
  #value = '';

  constructor() {
    try {
      this.#value = sessionStorage.getItem(TOKEN_KEY) ?? '';
    } catch {
      // No storage, no token.
    }
  }

  get value() {
    return this.#value;
  }

  /** @param {string} value none: it is forgotten */
  set value(value) {
    this.#value = value;
    try {
      if (value) sessionStorage.setItem(TOKEN_KEY, value);
      else sessionStorage.removeItem(TOKEN_KEY);
    } catch {
      // It is known until the page is left.
    }
  }
}

/** The sidecar that served this page. */
class Sidecar {
  clock = new Clock();
  token = new Token();

  /**
   * Asks it. An answer of any status is returned; none, or a late one, is an error with words for a person.
   * @param {string} path
   * @param {{method?: string, etag?: string | null}} [options]
   * @returns {Promise<Answer>}
   */
  async ask(path, { method = 'GET', etag = null } = {}) {
    /** @type {Record<string, string>} */
    const headers = {};
    if (this.token.value) headers.Authorization = `Bearer ${this.token.value}`;
    if (etag) headers['If-None-Match'] = etag;
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), ANSWER_MS_MAX);
    const sentAt = Date.now();
    try {
      const { signal } = deadline;
      const answer = await fetch(path, { method, headers, signal, cache: 'no-store', redirect: 'error' });
      this.clock.learn(answer.headers.get('date'), sentAt, Date.now());
      return {
        status: answer.status,
        body: await bodyOf(answer),
        etag: answer.headers.get('etag'),
        access: answer.headers.get('x-kling-access'),
      };
    } catch (error) {
      const why = deadline.signal.aborted ? `nothing came within ${span(ANSWER_MS_MAX)}` : 'it cannot be reached';
      throw new Error(why, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }
}

/** @param {Response} answer */
async function bodyOf(answer) {
  const isJson = answer.headers.get('content-type')?.startsWith('application/json');
  return isJson && answer.status !== 304 ? answer.json() : null;
}

/**
 * What an answer says that is no success.
 * @param {Answer} answer
 * @returns {string}
 */
function refusalOf(answer) {
  return answer.body?.error ?? `status ${answer.status}`;
}

/**
 * Asks for `/status` once a second while the page is visible, one question at a time.
 *
 * @typedef {object} Listener
 * @property {(status: Status | null, access: string | null) => void} fresh an answer; null: nothing has changed
 * @property {(why: string) => void} gone none, or one that is no status
 * @property {() => void} locked it wants a token, or another one
 */
class Watch {
  /** @type {string | null} */
  #etag = null;
  #isLocked = false;
  #wake = () => {};

  /**
   * @param {Sidecar} sidecar
   * @param {Listener} listener
   */
  constructor(sidecar, listener) {
    this.sidecar = sidecar;
    this.listener = listener;
    document.addEventListener('visibilitychange', () => this.#wake());
  }

  /** Asks now, whatever was known: something was changed. */
  hurry() {
    this.#isLocked = false;
    this.#wake();
  }

  /** Asks for all, since what is shown is to be forgotten. */
  restart() {
    this.#etag = null;
    this.hurry();
  }

  async run() {
    for (;;) {
      if (document.hidden || this.#isLocked) await this.#pause(null);
      else {
        await this.#askOnce();
        await this.#pause(PAUSE_MS);
      }
    }
  }

  async #askOnce() {
    try {
      this.#take(await this.sidecar.ask('status', { etag: this.#etag }));
    } catch (error) {
      this.#etag = null;
      this.listener.gone(/** @type {Error} */ (error).message);
    }
  }

  /** @param {Answer} answer */
  #take(answer) {
    if (answer.status === 200) {
      this.#etag = answer.etag;
      this.listener.fresh(answer.body, answer.access);
    } else if (answer.status === 304) {
      this.listener.fresh(null, answer.access);
    } else {
      this.#etag = null;
      this.#isLocked = answer.status === 401;
      if (this.#isLocked) this.listener.locked();
      else this.listener.gone(refusalOf(answer));
    }
  }

  /**
   * Waits so long, or until it is woken.
   * @param {number | null} ms null: until then only
   */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = ms === null ? undefined : setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
  }
}
