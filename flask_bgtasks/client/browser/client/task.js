// One task in one tab: its view, its events one by one, its result. What happens in between is the client's.

import { TERMINAL } from './records.js';
import { fold, viewOf } from './view.js';

export class TaskError extends Error {
  constructor(message, { task, problem }) {
    super(message);
    this.name = this.constructor.name;
    this.task = task;
    this.problem = problem;
  }
}

export class TaskFailed extends TaskError {}
export class TaskCancelled extends TaskError {}
export class TaskRejected extends TaskError {}
export class TaskGone extends TaskError {}

const OVER = new Set(['settled', 'announced', 'acked', 'rejected', 'gone']);

/** `client` is what the handle asks: `history`, `resultOf`, `cancel`, `retry`. */
export class Task extends EventTarget {
  #client;
  #accept = withResolvers();
  #queues = new Set(); // one for each loop over this task
  #told = []; // all events so far, for a loop that begins later
  #held = []; // events that wait for those before them
  #filling = false;
  #wanted = 0; // the newest number that was heard of
  #ended = false;

  constructor(client, record, { after = 0 } = {}) {
    super();
    this.#client = client;
    this.after = after; // a loop leaves out the events up to this number
    this.record = record;
    this.view = viewOf(record);
    this.#accept.promise.catch(() => {}); // whoever asks for it hears of it
    this.update(record);
  }

  /** The client that follows it. */
  get client() {
    return this.#client;
  }

  get key() {
    return this.record.key;
  }

  get requestId() {
    return this.record.request_id;
  }

  get accepted() {
    return this.#accept.promise;
  }

  /** Whether its outcome is known. */
  get over() {
    return this.#ended || OVER.has(this.record.state);
  }

  cancel() {
    return this.accepted.then((requestId) => this.#client.cancel(requestId));
  }

  retry() {
    return this.accepted.then((requestId) => this.#client.retry(requestId));
  }

  async result({ signal } = {}) {
    signal?.throwIfAborted();
    await new Promise((resolve, reject) => {
      const look = () => { if (this.over) resolve(); };
      this.addEventListener('change', look, { signal });
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
      look();
    });
    this.#throwUnlessCompleted();
    return this.#client.resultOf(this.record);
  }

  [Symbol.asyncIterator]() {
    return this.#loop();
  }

  // -- from the client ----------------------------------------------------------------------------------------------

  /** The record has changed. */
  update(record) {
    const reopened = this.#ended && record.state === 'following';
    this.record = record;
    if (record.request_id) this.#accept.resolve(record.request_id);
    if (record.state === 'rejected' || record.state === 'gone') return this.#over(record);
    if (reopened) {
      this.#ended = false;
      this.#told = this.#told.map((event) => (event.type === 'terminal' ? { ...event, type: 'state' } : event));
    }
    if (!this.view.seq) this.view = viewOf(record);
    this.#changed(null);
  }

  /** An event, from whichever channel. Those before it that are missing are fetched first. */
  hear(event) {
    this.#wanted = Math.max(this.#wanted, event.seq);
    if (!this.#filling && event.seq <= this.view.seq + 1) return this.#tell(event);
    this.#held.push(event);
    this.#fill(event.via, () => {});
  }

  /** The task was seen with this number: whatever happened up to it is to be told. */
  sighted(sighting) {
    const { seq, status, via } = sighting;
    this.#wanted = Math.max(this.#wanted, Math.floor(seq ?? 0));
    if (this.#ended || (this.#wanted <= this.view.seq && !TERMINAL.has(status))) return;
    this.#fill(via, () => this.#imagine(sighting));
  }

  // -- events -------------------------------------------------------------------------------------------------------

  /** Get what is missing from the history. `otherwise` tells what is known besides, where it cannot be had. */
  async #fill(via, otherwise) {
    if (this.#filling) return;
    this.#filling = true;
    let before;
    do {
      before = this.view.seq;
      const events = await this.#client.history(this.requestId, before);
      for (const event of events) this.#tell({ ...event, via });
    } while (this.view.seq > before && this.view.seq < this.#wanted && !this.#ended);
    this.#filling = false;
    for (const event of this.#held.splice(0)) this.#tell(event);
    if (!this.#ended) otherwise();
  }

  #tell(event) {
    if (this.#ended || (event.seq <= this.view.seq && event.type !== 'terminal')) return;
    this.view = fold(this.view, event);
    this.#told.push(event);
    for (const queue of this.#queues) queue.push(event);
    if (event.type === 'terminal') this.#end();
    this.#changed(event);
  }

  /** The history is unreachable, or has nothing of it: tell what a poll or the mirror said, as an event. */
  #imagine({ status, seq, attempt, progress, error_message, via }) {
    if (TERMINAL.has(status)) {
      return this.#tell({ type: 'terminal', name: status, seq: Math.floor(seq ?? this.view.seq), attempt, via, data: { error_message } });
    }
    if (this.#wanted <= this.view.seq) return;
    // It keeps the number of the last event that was told: the real ones have more to say when they come.
    const event = { type: 'snapshot', name: 'snapshot', seq: this.view.seq, attempt, via, data: { status, progress } };
    this.view = fold(this.view, event);
    for (const queue of this.#queues) queue.push(event);
    this.#changed(event);
  }

  #over(record) {
    if (this.#ended) return;
    const problem = record.error ?? {};
    this.#accept.reject(new TaskRejected(problem.detail ?? problem.title ?? 'The server refused it.', { task: this, problem }));
    this.view = { ...this.view, status: record.state, error: problem.detail ?? problem.title ?? null };
    this.#end();
    this.#changed(null);
  }

  #end() {
    this.#ended = true;
    for (const queue of this.#queues) queue.close();
  }

  #changed(event) {
    this.dispatchEvent(new CustomEvent('change', { detail: event }));
    this.#client.viewed(this, event);
  }

  #throwUnlessCompleted() {
    const { state } = this.record;
    const status = state === 'rejected' || state === 'gone' ? state : OVER.has(state) ? this.record.status : this.view.status;
    const problem = this.record.error ?? { detail: this.view.error };
    const error = problem.detail ?? problem.title;
    const details = { task: this, problem };
    if (status === 'failed') throw new TaskFailed(error ?? 'The task failed.', details);
    if (status === 'cancelled') throw new TaskCancelled('The task was cancelled.', details);
    if (status === 'rejected') throw new TaskRejected(error ?? 'The server refused it.', details);
    if (status === 'gone') throw new TaskGone(error ?? 'The server does not have this task any more.', details);
  }

  async *#loop() {
    const queue = new Queue(this.#told, this.after);
    this.#queues.add(queue);
    if (this.#ended) queue.close();
    else if (this.over) this.sighted({ ...this.record, seq: this.record.settled_seq, via: this.record.via ?? 'poll' });
    try {
      for (let event = await queue.next(); event; event = await queue.next()) yield event;
    } finally {
      this.#queues.delete(queue);
    }
  }
}

/** Events that wait for one reader. */
class Queue {
  #events = [];
  #after;
  #closed = false;
  #wake = null;

  constructor(events, after) {
    this.#after = after;
    for (const event of events) this.push(event);
  }

  push(event) {
    if (event.seq <= this.#after && event.type !== 'terminal') return;
    this.#events.push(event);
    this.#wake?.();
  }

  close() {
    this.#closed = true;
    this.#wake?.();
  }

  /** The next event; null when there will be none. */
  async next() {
    while (!this.#events.length && !this.#closed) await new Promise((resolve) => { this.#wake = resolve; });
    return this.#events.shift() ?? null;
  }
}

function withResolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
