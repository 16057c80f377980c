// Asks for sure, where connections may be dead without anybody having said so: a browser keeps up to six for an origin,
// and sends a question over each of the dead ones before it makes a new one. So it is asked side by side, and whichever
// answer comes first is taken.

import { Deadline } from './deadline.js';
import { Unreachable } from './http.js';

/** At once: six questions, one for each connection, and a word within 2.5 s. In milliseconds. */
export const FIRST = { at: [0, 400, 800, 1200, 1600, 2000], timeout: 2500 };

/** When it is known to be lost: patient, for slow networks, and again and again, for one that comes back. */
export const LATER = { at: [0, 2500, 5000], timeout: 10_000 };

/** The first answer, or error, of `ask(signal)`, called at these times. The others are given up. */
export async function sideBySide(ask, { at, timeout }, signal) {
  const deadline = new Deadline(timeout, signal);
  let timers;
  try {
    return await new Promise((resolve, reject) => {
      timers = at.map((milliseconds) => setTimeout(() => ask(deadline.signal).then(resolve, reject), milliseconds));
      const giveUp = () => reject(new Unreachable('no answer in time'));
      if (deadline.signal.aborted) giveUp();
      else deadline.signal.addEventListener('abort', giveUp, { once: true });
    });
  } finally {
    for (const timer of timers) clearTimeout(timer);
    deadline.end();
    deadline.abort();
  }
}
