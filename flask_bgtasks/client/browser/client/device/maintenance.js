// Work that is left to do: send what waits, announce what is settled, report what was seen. Again later while some is left.

import { coalesced } from '../tabs/coalesce.js';

const FIRST = 1000;
const SLOWEST = 30_000;
const AT_ONCE = 4; // outcomes whose results are read: a browser has six connections for an origin

export class Maintenance {
  #outbox;
  #outcomes;
  #mine;
  #timer = null;
  #rounds = 0; // in a row that left something undone
  #all = false;
  #closed = false;
  #inTurn = coalesced(() => this.#round());

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
    const [unsent, { done, left }] = await Promise.all([this.#outbox.flush({ all }).catch(() => FIRST), this.#finish()]);
    if (done || !left) this.#rounds = 0; // somebody answers
    if (unsent === null && !left) return;
    this.#in(Math.max(50, Math.min(unsent ?? SLOWEST, left ? this.#pause() : SLOWEST)));
    this.#rounds += 1;
  }

  /** Announce and report; how many of them were done, and could not be. */
  async #finish() {
    const mine = await this.#mine();
    const work = [
      ...mine.filter(({ state }) => state === 'settled').map(({ key }) => () => this.#outcomes.announce(key)),
      ...mine.filter(({ state }) => state === 'announced').map((record) => () => this.#outcomes.report(record)),
    ];
    let done = 0;
    for (let at = 0; at < work.length; at += AT_ONCE) {
      const went = await Promise.all(work.slice(at, at + AT_ONCE).map((begin) => begin()));
      done += went.filter(Boolean).length;
    }
    return { done, left: work.length - done };
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
