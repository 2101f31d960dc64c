// Plain words for what the sidecar says in terms, numbers, times and ages.

/**
 * How bad a state is, and its word. The worst comes first.
 * @type {Record<string, {rank: number, word: string, tone: string}>}
 */
const STATES = {
  error: { rank: 0, word: 'error', tone: 'bad' },
  quarantined: { rank: 1, word: 'quarantined', tone: 'bad' },
  parked: { rank: 2, word: 'parked', tone: 'bad' },
  removed: { rank: 3, word: 'removed', tone: 'warn' },
  cooling: { rank: 4, word: 'cooling', tone: 'warn' },
  draining: { rank: 5, word: 'draining', tone: 'warn' },
  full: { rank: 6, word: 'full', tone: 'busy' },
  available: { rank: 7, word: 'available', tone: 'good' },
};

/** @type {Record<string, string>} */
const OUTCOMES = {
  waiting: 'waits for a slot',
  submitting: 'is being sent',
  accepted: 'accepted',
  full: 'refused: the account was full',
  session: 'refused: the session is broken',
  credit: 'refused: no credit',
  refused: 'refused by the upstream',
  token: 'refused: the token',
  unsent: 'not sent',
  uncertain: 'lost: not known whether there is a job',
  absent: 'lost: there is no job',
};

/** @param {string} state */
function stateOf(state) {
  return STATES[state] ?? { rank: 0, word: state, tone: 'warn' };
}

const NUMBERS = new Intl.NumberFormat('en');

/** @param {number} count */
function number(count) {
  return NUMBERS.format(count);
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} many
 */
function counted(count, one, many) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/**
 * A length of time: two units at most, and whole seconds.
 * @param {number} ms
 */
function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (seconds < 60) return `${seconds} s`;
  if (minutes < 10) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  if (minutes < 60) return `${minutes} min`;
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/**
 * When a slot is expected to be free.
 * @param {number} ms as the sidecar said
 * @param {number} toldAt when it did
 * @param {number} now
 */
function forecast(ms, toldAt, now) {
  const left = ms - (now - toldAt);
  return left > 0 ? `in about ${span(left)}` : 'soon';
}

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
});
const DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

/**
 * A time of this browser's zone, with its day if that is not the day of `now`.
 * @param {number} at
 * @param {number} now
 */
function localTime(at, now) {
  const day = DAY.format(at);
  return day === DAY.format(now) ? CLOCK.format(at) : `${day}, ${CLOCK.format(at)}`;
}

/** @param {number} at */
function utcTime(at) {
  return `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
