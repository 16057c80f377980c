// When a request is given up: one controller for each, which its timer and whoever it depends on hold. Signals that are
// made of others, `AbortSignal.any()` and `AbortSignal.timeout()`, are held by nobody: WebKit collects them, and then
// nothing ends the request.

export class Deadline {
  #controller = new AbortController();
  #timer;
  #parent;
  #stop = () => this.abort();

  /** Given up after so many milliseconds, or with `parent`, a signal. */
  constructor(milliseconds, parent = null) {
    this.#parent = parent;
    if (parent?.aborted) this.abort();
    parent?.addEventListener('abort', this.#stop);
    this.in(milliseconds);
  }

  /** Whether it was the time that ended it. */
  late = false;

  get signal() {
    return this.#controller.signal;
  }

  /** That long from now. */
  in(milliseconds) {
    clearTimeout(this.#timer);
    if (milliseconds === Infinity || this.signal.aborted) return;
    this.#timer = setTimeout(() => { this.late = true; this.abort(); }, milliseconds);
  }

  abort() {
    clearTimeout(this.#timer);
    this.#controller.abort();
  }

  /** The request is over. */
  end() {
    clearTimeout(this.#timer);
    this.#parent?.removeEventListener('abort', this.#stop);
  }
}
