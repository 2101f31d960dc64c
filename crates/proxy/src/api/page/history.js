// The last hour, or since the sidecar started: slots in use and waiting calls, as a drawing and as a table.

const HOUR_MS = 3_600_000;
/** A sidecar that has just started has two points that are hardly apart. */
const SPAN_MS_MIN = 60_000;
const CHART = { width: 600, height: 120 };

/** Draws the last hour. */
class HistoryView {
  /** @param {Clock} clock */
  constructor(clock) {
    this.clock = clock;
    this.max = draw('path', { class: 'line-max' });
    this.area = draw('path', { class: 'area' });
    this.inUse = draw('path', { class: 'line-in-use' });
    this.waiting = draw('path', { class: 'line-waiting' });
    byId('chart').append(this.area, this.max, this.inUse, this.waiting);
    this.table = new Rows(byId('history-rows'), () => this.#row());
    byId('history-table').addEventListener('toggle', () => this.#showTable());
    /** @type {Point[]} */
    this.points = [];
    /** What is drawn, in milliseconds. */
    this.span = HOUR_MS;
  }

  /** @param {Status} status */
  show({ history, slots, waiting }) {
    const now = new Date(this.clock.now()).toISOString();
    const newest = { at: now, inFlight: slots.inFlight, max: slots.max, waiting: waiting.count };
    this.points = [...history, newest];
    this.span = Math.min(HOUR_MS, Math.max(SPAN_MS_MIN, this.clock.since(this.points[0].at)));
    const top = Math.max(1, ...this.points.map((point) => Math.max(point.max, point.inFlight, point.waiting)));
    const line = (/** @type {'max' | 'inFlight' | 'waiting'} */ name) => this.#lineOf(name, top);
    this.max.setAttribute('d', line('max'));
    this.waiting.setAttribute('d', line('waiting'));
    this.inUse.setAttribute('d', line('inFlight'));
    this.area.setAttribute('d', this.#areaBelow(line('inFlight')));
    say(byId('chart-top'), number(top));
    say(byId('chart-start'), `${span(this.span)} ago`);
    say(byId('chart-words'), this.#words());
    byId('chart').setAttribute('aria-label', `The last hour. ${this.#words()}`);
    this.#showTable();
  }

  /** @param {Point} point */
  #placeOf(point) {
    return CHART.width * (1 - this.clock.since(point.at) / this.span);
  }

  /**
   * @param {'max' | 'inFlight' | 'waiting'} name
   * @param {number} top
   */
  #lineOf(name, top) {
    const place = (/** @type {Point} */ point) => {
      const y = CHART.height * (1 - point[name] / top);
      return `${this.#placeOf(point).toFixed(1)} ${y.toFixed(1)}`;
    };
    return `M${this.points.map(place).join('L')}`;
  }

  /** @param {string} line */
  #areaBelow(line) {
    return `${line}L${CHART.width} ${CHART.height}L${this.#placeOf(this.points[0]).toFixed(1)} ${CHART.height}Z`;
  }

  #words() {
    const most = (/** @type {'inFlight' | 'waiting'} */ name) => Math.max(...this.points.map((point) => point[name]));
    return `At most ${counted(most('inFlight'), 'slot', 'slots')} in use and ${number(most('waiting'))} waiting.`;
  }

  #showTable() {
    if (byId('history-table').open) this.table.show([...this.points].reverse(), (_point, place) => place);
  }

  #row() {
    const [at, inUse, max, waiting] = [make('time'), make('td'), make('td'), make('td')];
    const update = (/** @type {Point} */ point) => {
      sayTime(at, point.at, (time) => localTime(time, this.clock.now()));
      say(inUse, number(point.inFlight));
      say(max, number(point.max));
      say(waiting, number(point.waiting));
    };
    return { node: make('tr', {}, make('th', { scope: 'row' }, at), inUse, max, waiting), update };
  }
}
