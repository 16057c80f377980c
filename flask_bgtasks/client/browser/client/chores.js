// Work that is left to do: send what waits, announce what is settled, report what was seen. Again later while some is left.

const FIRST = 1000;
const SLOWEST = 30_000;

export class Chores {
  #outbox;
  #outcomes;
  #mine;
  #timer = null;
  #rounds = 0; // in a row that left something undone
  #closed = false;

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

  /** One round at once. `all`: also what waits for its time. */
  async round({ all = false } = {}) {
    const unsent = await this.#outbox.flush({ all }).catch(() => FIRST);
    const mine = await this.#mine();
    for (const { key, state } of mine) if (state === 'settled') await this.#outcomes.announce(key);
    let unreported = false;
    for (const record of mine) {
      if (record.state === 'announced' && !(await this.#outcomes.report(record))) unreported = true;
    }
    if (unsent === null && !unreported) {
      this.#rounds = 0;
      return;
    }
    this.#in(Math.max(50, Math.min(unsent ?? SLOWEST, unreported ? this.#pause() : SLOWEST)));
    this.#rounds += 1;
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
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
