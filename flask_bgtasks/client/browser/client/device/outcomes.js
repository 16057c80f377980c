// How a task ended: its result, telling the user of it once over all tabs, and telling the server that they were told.

import { Refused, Unreachable, refusal } from '../network/http.js';
import { pathOf } from '../ids.js';
import { exclusively } from '../tabs/leader.js';
import { visible } from '../tabs/lifecycle.js';
import { isJSON, isOurs, parsed } from '../provenance.js';
import * as records from '../records.js';

const HIDDEN_LETS_VISIBLE_TELL = 300;
const FIRST_WAIT = 1000; // between tries to read a result, doubled each time
const MAX_WAIT = 30_000;

export class Outcomes {
  #http;
  #store;
  #mirror;
  #name;
  #locks;
  #stall;
  #tell;
  #told;
  #later;
  #telling = new Set(); // keys, in this tab
  #wakers = []; // what waits to read a result, and may try at once when the page wakes
  #closed = false;

  /**
   * `tell(record, result, problem)` is called in one tab, once, and `told(key)` when that is kept; `later()` where it has
   * to be tried again.
   */
  constructor({ http, store, mirror, name, locks, stall, tell, told, later }) {
    this.#http = http;
    this.#store = store;
    this.#mirror = mirror;
    this.#name = name;
    this.#locks = locks;
    this.#stall = stall;
    this.#tell = tell;
    this.#told = told;
    this.#later = later;
  }

  /** The page has woken: read now what could not be read. */
  wake() {
    for (const wake of this.#wakers.splice(0)) wake();
  }

  /** Try no more. */
  close() {
    this.#closed = true;
  }

  /** An outcome is known. Every tab hears of it; one that is looked at goes first. */
  settled(key) {
    const tell = async () => {
      if (!(await this.announce(key))) this.#later();
    };
    if (visible()) tell();
    else setTimeout(tell, HIDDEN_LETS_VISIBLE_TELL);
  }

  /**
   * Tell of it, unless another tab does so now, or did. It counts as told when the app's listeners have returned: after
   * a crash before that it is told again. False: to be tried again.
   */
  async announce(key) {
    if (this.#telling.has(key)) return true; // and looks after it
    this.#telling.add(key);
    let told = false;
    try {
      await exclusively(`${this.#name}:announce:${key}`, async () => { told = await this.#announce(key); }, { locks: this.#locks });
    } finally {
      this.#telling.delete(key);
    }
    return told; // not where another tab is at it: it may never come to its end
  }

  async #announce(key) {
    const record = await this.#store.get(key);
    if (record?.state !== 'settled') return true;
    let result = null;
    let problem = record.error;
    if (record.status === 'completed') {
      try {
        result = await this.result(record.request_id);
      } catch (error) {
        if (isPassing(error)) return false;
        problem = error.problem; // it is over, and there is nothing to show
      }
    }
    const told = (known) => records.announced(known, record.settled_seq, Date.now(), { visibly: visible() });
    this.#tell(told(record), result, problem);
    await this.#store.change(key, told);
    this.#told(key);
    return true;
  }

  /** Tell the server that the outcome was shown. What a hidden page was told, nobody has seen. False: to be tried again. */
  async report({ key, request_id: requestId, announced_seq: seq, announced_visibly: seen, via }) {
    if (!seen && !visible()) return true;
    try {
      const answer = await this.#http.json(pathOf(requestId, 'seen'), {
        method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ via: via ?? 'poll' }),
      });
      if (answer !== null) return false; // the backend has nothing to say to that
    } catch (error) {
      if (isPassing(error)) return false;
    }
    await this.#store.change(key, (known) => records.acked(known, seq, Date.now()));
    return true;
  }

  /** The result, when it can be had: tried until it is there, or there will be none. */
  async eventualResult(requestId) {
    for (let tries = 0; ; tries += 1) {
      try {
        return await this.result(requestId);
      } catch (error) {
        if (this.#closed || !isPassing(error)) throw error;
        await new Promise((resolve) => {
          this.#wakers.push(resolve);
          setTimeout(resolve, Math.min(MAX_WAIT, FIRST_WAIT * 2 ** tries));
        });
      }
    }
  }

  /** The view's own answer: parsed JSON, or a Blob. By the mirror where the backend is unreachable. */
  async result(requestId) {
    try {
      const { status, headers, type, blob, crossOrigin } = await this.#http.whole(pathOf(requestId, 'result'), { stallAfter: this.#stall });
      // Across origins a header can be read where it is exposed; but nobody on the way could have answered readably there.
      const marked = headers.get('task-id') === requestId || (crossOrigin && status < 300);
      if (!marked) throw await refusal({ status, headers, text: () => blob.text() });
      if (status === 202) throw new Unreachable('the result is not there yet');
      const value = isJSON(type) ? parsed(await blob.text()) : undefined;
      if (status >= 400) throw new Refused(status, { status, ...value }, null, { final: true });
      return value === undefined ? blob : value;
    } catch (error) {
      if (!(error instanceof Unreachable) || !this.#mirror) throw error;
      return this.#mirror.result(requestId).catch(() => { throw error; });
    }
  }
}

/** Whether the same question may be answered otherwise later: nothing but the library's own no, or the view's, is final. */
function isPassing(error) {
  if (!(error instanceof Refused)) return true;
  if (error.final) return false;
  return !isOurs(error.problem) || error.status >= 500 || error.status === 429 || error.status === 401;
}
