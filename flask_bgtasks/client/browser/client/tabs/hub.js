// What tabs tell each other, and a tab tells itself: one list of listeners, over all tabs of this name.

import { isSound } from '../ids.js';

export class Hub {
  #name;
  #channel = null;
  #listeners = new Set();

  /** `shared`: false keeps everything in this tab. */
  constructor(name, { shared }) {
    this.#name = name;
    this.shared = shared && typeof BroadcastChannel === 'function';
    this.open();
  }

  /** Call `listener(message, {remote})` for each message. */
  on(listener) {
    this.#listeners.add(listener);
  }

  /** Tell every tab, this one first. */
  send(message) {
    this.tell(message);
    this.#channel?.postMessage(message);
  }

  /** Tell this tab only. */
  tell(message) {
    for (const listener of this.#listeners) listener(message, { remote: false });
  }

  open() {
    if (!this.shared || this.#channel) return;
    try {
      this.#channel = new BroadcastChannel(this.#name);
    } catch {
      this.shared = false; // forbidden together with cookies
      return;
    }
    this.#channel.onmessage = ({ data }) => {
      if (!data || !isSound(data) || !isSound(data.sighting ?? {}) || !isSound(data.detail ?? {})) return;
      for (const listener of this.#listeners) listener(data, { remote: true });
    };
  }

  /** An open channel keeps a page out of the back-forward cache. */
  close() {
    this.#channel?.close();
    this.#channel = null;
  }
}
