// The list of lessons that were made on this device, from the client's own records: it is there after a reload, and
// without a network.

import { $, addressOf, ago, make, write } from './dom.js';

const STATES = { completed: 'ready', failed: 'failed', cancelled: 'cancelled' };
const REFRESH_TIMES = 30_000;

/** @param isOpen whether a record is the one that is shown. */
export class Lessons {
  #bg;
  #isOpen;
  #rows = new Map(); // by the key of their record
  #percentages = new Map(); // what is running, which is more often news than the records are
  #reading = null;

  constructor(bg, isOpen) {
    this.#bg = bg;
    this.#isOpen = isOpen;
    for (const type of ['records', 'channel']) bg.addEventListener(type, () => this.refresh());
    bg.addEventListener('progress', ({ detail: { task } }) => this.#advance(task));
    setInterval(() => this.refresh(), REFRESH_TIMES);
    bg.ready.then(() => this.refresh());
  }

  /** Show the records as they are now. While they are read, more calls make one more reading. */
  refresh() {
    if (this.#reading) return void (this.#reading.again = true);
    this.#reading = { again: false };
    this.#bg.records().then((records) => this.#show(records)).finally(() => {
      const { again } = this.#reading;
      this.#reading = null;
      if (again) this.refresh();
    });
  }

  #show(records) {
    const kept = new Set(records.map((record) => record.key));
    for (const [key, row] of this.#rows) {
      if (!kept.has(key)) {
        row.remove();
        this.#rows.delete(key);
      }
    }
    const list = $('lessons-list');
    records.forEach((record, index) => {
      const row = this.#rows.get(record.key) ?? this.#add(record);
      const there = list.children[index] ?? null;
      if (there !== row) list.insertBefore(row, there);
      this.#update(row, record);
    });
    $('lessons-none').hidden = records.length > 0;
    $('lessons-count').hidden = !records.length;
    write($('lessons-count'), String(records.length));
  }

  #add(record) {
    const label = record.label ?? 'A lesson';
    const remove = make('button', { type: 'button', className: 'remove plain' });
    remove.ariaLabel = `Remove “${label}” from this list`;
    remove.addEventListener('click', () => this.#remove(record));
    const row = make('li', {},
      make('a', { className: 'open' },
        make('span', { className: 'dot', ariaHidden: 'true' }),
        make('span', { className: 'title' }, label),
        make('span', { className: 'state quiet' })),
      remove);
    this.#rows.set(record.key, row);
    return row;
  }

  #update(row, record) {
    const [link] = row.children;
    const [, , state] = link.children;
    const percentage = this.#percentages.get(record.key) ?? record.progress?.progress_percentage ?? 0;
    const [kind, words] = stateOf(record, { channel: this.#bg.channel, percentage });
    row.dataset.kind = kind;
    write(state, `${words} · ${ago(record.created_at)}`);
    if (record.request_id) {
      link.href = addressOf(record.request_id);
      link.dataset.go = '';
    }
    if (this.#isOpen(record)) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }

  #advance({ key, view }) {
    const before = Math.floor(this.#percentages.get(key) ?? -1);
    this.#percentages.set(key, view.percentage);
    if (Math.floor(view.percentage) > before) this.refresh();
  }

  async #remove(record) {
    const row = this.#rows.get(record.key);
    const neighbour = row.nextElementSibling ?? row.previousElementSibling;
    await this.#bg.remove(record.request_id ?? record.key);
    (neighbour?.querySelector('.remove') ?? $('lessons-title')).focus();
    this.refresh();
  }
}

/** What is said of a record: its kind, for the colour, and the words. */
export function stateOf({ state, status, tries, error, refusal }, { channel, percentage }) {
  const unreached = channel === 'offline' || channel === 'monitor' || !navigator.onLine;
  if (state === 'queued' && refusal) return ['waiting', `${refusal.detail ?? refusal.title ?? 'the server is busy'}`];
  if (state === 'queued' || state === 'sending') {
    return ['waiting', unreached ? 'waiting for the network' : tries > 1 ? 'sending again' : 'being sent'];
  }
  if (state === 'rejected') return ['failed', `not accepted: ${error?.detail ?? error?.title ?? ''}`];
  if (state === 'gone') return ['failed', 'no longer there'];
  if (state === 'blocked') return ['waiting', 'waiting for a login'];
  if (status in STATES) return [status, STATES[status]];
  return ['processing', `${Math.floor(percentage)}%`];
}
