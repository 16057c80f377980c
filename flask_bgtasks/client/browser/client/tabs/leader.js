// One tab follows the tasks for all: the one that holds the lock. The browser gives it to the next when that tab closes.
// A suspended tab keeps its lock and says nothing more: then a visible one takes it away.

export const BEAT = 5000;
const SILENT_BEATS = 3;
const YIELDS_FOR = 1000;
const AFTER_AN_ERROR = 1000;

export class Leader {
  #name;
  #hub;
  #lead;
  #state;
  #locks;
  #standing = null; // AbortController of this tab's candidacy
  #heard = performance.now(); // when a leader was last heard of
  #timer = null;
  #yielding = null;

  /**
   * `lead(signal)` is called in the tab that leads, until the signal is aborted; `state()` is told with each beat.
   * Without `locks`, each tab leads.
   */
  constructor({ name, hub, lead, state, locks }) {
    this.#name = name;
    this.#hub = hub;
    this.#lead = lead;
    this.#state = state;
    this.#locks = locks;
    hub.on((message, { remote }) => {
      if (remote && message.type === 'beat') this.#heard = performance.now();
      if (remote && message.type === 'hello' && this.leading) this.#beat();
    });
  }

  leading = false;

  /** Stand for it, until `rest`. */
  stand() {
    clearTimeout(this.#yielding);
    if (this.#standing) return;
    this.#candidate();
    this.#timer = setInterval(() => this.#tick(), BEAT);
    this.#hub.send({ type: 'hello' });
  }

  /** Let another tab lead. */
  rest() {
    clearTimeout(this.#yielding);
    clearInterval(this.#timer);
    this.#standing?.abort();
    this.#standing = null;
    this.leading = false;
  }

  /** Let another tab lead that would rather; if there is none, go on. */
  yield() {
    if (!this.#standing) return;
    this.rest();
    this.#yielding = setTimeout(() => this.stand(), YIELDS_FOR);
  }

  #tick() {
    if (this.leading) return this.#beat();
    const silent = performance.now() - this.#heard > SILENT_BEATS * BEAT;
    if (!silent || document.visibilityState !== 'visible') return;
    this.#standing.abort();
    this.#candidate({ steal: true });
  }

  #candidate(options = {}) {
    this.#standing = new AbortController();
    this.#heard = performance.now();
    this.#request(this.#standing, options);
  }

  #beat() {
    this.#hub.send({ type: 'beat', ...this.#state() });
  }

  async #request(standing, { steal = false }) {
    const hold = async () => {
      if (standing.signal.aborted) return;
      this.leading = true;
      this.#beat();
      await Promise.race([this.#lead(standing.signal), new Promise((resolve) => onAbort(standing.signal, resolve))]);
    };
    try {
      if (this.#locks) await this.#locks.request(this.#name, steal ? { steal } : { signal: standing.signal }, hold);
      else await hold();
    } catch (error) {
      if (error.name !== 'AbortError') {
        console.error('bgtasks: following has failed, and starts again', error);
        await new Promise((resolve) => { setTimeout(resolve, AFTER_AN_ERROR); });
      }
    }
    // Given up by `rest`, or taken away: a tab that was suspended finds here that another one leads.
    if (standing !== this.#standing) return;
    standing.abort();
    this.leading = false;
    this.#candidate();
  }
}

/** Run `work` under a lock that all tabs know, unless another one is at it. Without locks, run it. */
export async function exclusively(name, work, { locks }) {
  if (!locks) return work();
  return locks.request(name, { ifAvailable: true }, (lock) => (lock ? work() : undefined));
}

/** The same, after whoever is at it now, who is given `patience`: a suspended tab would keep it for ever. */
export async function inTurn(name, work, { patience, locks }) {
  if (!locks) return work();
  const impatient = new AbortController();
  const timer = setTimeout(() => impatient.abort(), patience);
  try {
    return await locks.request(name, { signal: impatient.signal }, () => {
      clearTimeout(timer);
      return work();
    });
  } catch (error) {
    if (error.name !== 'AbortError' || !impatient.signal.aborted) throw error;
    return locks.request(name, { steal: true }, work);
  } finally {
    clearTimeout(timer);
  }
}

function onAbort(signal, then) {
  if (signal.aborted) then();
  else signal.addEventListener('abort', then, { once: true });
}
