// How long the jobs of each account took, as far as events have told since the page was opened.

/** The most jobs of an account that count, the newest ones. */
const DURATIONS_MAX = 50;

/** The durations of jobs that ended, by account. */
class Durations {
  /** The newest event that was read. */
  #newest = 0;
  /** @type {Map<string, number[]>} */
  #byEmail = new Map();

  /** @param {SidecarEvent[]} events oldest first */
  note(events) {
    for (const { id, email, result, durationMs } of events) {
      const isOver = result === 'succeeded' || result === 'failed';
      if (id <= this.#newest || !email || !isOver || durationMs === undefined) continue;
      const durations = this.#byEmail.get(email) ?? [];
      durations.push(durationMs);
      this.#byEmail.set(email, durations.slice(-DURATIONS_MAX));
    }
    this.#newest = Math.max(this.#newest, events.at(-1)?.id ?? 0);
  }

  /**
   * The median of an account in milliseconds, or null if no job of it has ended.
   * @param {string} email
   */
  median(email) {
    const durations = this.#byEmail.get(email)?.toSorted((left, right) => left - right);
    return durations ? durations[Math.floor(durations.length / 2)] : null;
  }
}
