// Work that is left to do: send what waits, announce what is settled, report what was seen. Again later while some is left.

import { oneAtATime } from './turns.js';

const FIRST = 1000;
const SLOWEST = 30_000;

export class Chores {
  #outbox;
  #outcomes;
  #mine;
  #timer = null;
  #rounds = 0; // in a row that left something undone
  #all = false;
  #closed = false;
  #inTurn = oneAtATime(() => this.#round());

  /** `mine()`: the records. */
  constructor({ outbox, outcomes, mine }) {
    this.#outbox = outbox;
    this.#outcomes = outcomes;
    this.#mine = mine;
  }

  /** There is something to do now. */
  now() {
    this.#rounds = 0;
    this.#in(0);
  }

  /** Something could not be done. */
  later() {
    this.#in(this.#pause());
  }

  /** One round, at once or after the one that is being done. `all`: also what waits for its time. */
  round({ all = false } = {}) {
    this.#all ||= all;
    return this.#inTurn();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #round() {
    const all = this.#all;
    this.#all = false;
    const [unsent, unreported] = await Promise.all([this.#outbox.flush({ all }).catch(() => FIRST), this.#finish()]);
    if (unsent === null && !unreported) {
      this.#rounds = 0;
      return;
    }
    this.#in(Math.max(50, Math.min(unsent ?? SLOWEST, unreported ? this.#pause() : SLOWEST)));
    this.#rounds += 1;
  }

  /** Announce and report. Whether something could not be reported. */
  async #finish() {
    const mine = await this.#mine();
    for (const { key, state } of mine) if (state === 'settled') await this.#outcomes.announce(key);
    let unreported = false;
    for (const record of mine) {
      if (record.state === 'announced' && !(await this.#outcomes.report(record))) unreported = true;
    }
    return unreported;
  }

  #pause() {
    return Math.min(SLOWEST, FIRST * 2 ** this.#rounds);
  }

  #in(milliseconds) {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.round(), milliseconds);
  }
}
