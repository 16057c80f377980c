// How long to wait between two polls: what the server asks for, and longer while nothing changes or nobody looks.

const SLOWEST = 5000; // milliseconds
const HIDDEN = 5; // times slower where nobody looks
const PATIENCE = 60_000; // milliseconds without a change, after which polls become slower

export class PollPace {
  #own;
  #after = null; // milliseconds that the server asks for
  #slow = 1; // times slower than usual
  #changed = performance.now(); // when a task last did
  #seen = new Map(); // by request id: the newest number

  /** How long not to ask again, in milliseconds, where the backend, or something before it, refused to answer. */
  retryAfter = null;

  /** `own`: the app's own interval in milliseconds; null leaves it to the server. */
  constructor(own) {
    this.#own = own;
  }

  /** Take in what a poll says of a task. */
  saw({ request_id, seq, poll_after_ms }) {
    if (poll_after_ms) this.#after = poll_after_ms;
    if (seq <= (this.#seen.get(request_id) ?? 0)) return;
    this.#seen.set(request_id, seq);
    this.#changed = performance.now();
  }

  /** Milliseconds until the next poll. */
  next(visible) {
    const quiet = performance.now() - this.#changed;
    this.#slow = quiet > PATIENCE ? Math.min(this.#slow * 1.5, 5) : 1;
    const usual = (this.#own ?? this.#after ?? 1000) * this.#slow;
    const interval = Math.min(SLOWEST, visible ? usual : usual * HIDDEN);
    return Math.max(interval, this.retryAfter ?? 0) * (0.8 + 0.4 * Math.random());
  }
}
