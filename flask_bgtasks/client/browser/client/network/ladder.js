// How tasks are followed, in the one tab that leads: a stream; else polls; else the mirror, beside a probe of the backend.
// A loop over rungs; each rung does one round and names the next. What is learnt goes to `core`; nothing is kept here
// but what decides when to try what.

import { Refused } from './http.js';
import { PollPace } from './poll-pace.js';
import { FIRST, LATER } from './probe.js';
import { MAX_IDS, askAll, sightingOf } from './statuses.js';
import { Stream } from './stream.js';

const STREAM_TRIES = 3;
const STREAM_AGAIN = 30_000; // while polling
const SLOWEST_STREAM = 30_000;
const SLOWEST_PROBE = 30_000;
const SOON = 2000; // the slowest probe while somebody looks, and the loss is new
const NEW_FOR = 120_000;
const SLOWEST_MIRROR = 120_000;
const QUIET = 20_000; // a stream that was silent for longer than a ping is not trusted after a sleep

export class Ladder {
  #http;
  #mirror;
  #core;
  #times;
  #round = new AbortController(); // of what is waited for now; aborted by a kick
  #rung = 'stream';
  #events;
  #failures = 0; // of the stream, in a row
  #streamAt = 0; // not before
  #pace;
  #doubted = false; // connections may be dead
  #probe = 0; // probes in a row without an answer
  #busy = null; // milliseconds that a server which answers, but cannot, asks to wait
  #mirrorAt = 0;
  #mirrorFailures = 0;
  #lostAt = null;

  /**
   * @param core `following()`, `event(id, event)`, `sighting(…)`, `missing(ids)`, `channel(to, why)`, `back(after)`,
   *   `blocked(status)`, `slept()`, `visible()`.
   * @param times `{poll, monitor, stall}` in milliseconds; `poll` null leaves it to the server.
   */
  constructor({ http, mirror, core, times }) {
    this.#http = http;
    this.#mirror = mirror;
    this.#core = core;
    this.#times = times;
    this.#events = new Stream({ http, core, stall: times.stall });
    this.#pace = new PollPace(times.poll);
  }

  /** Follow until the signal is aborted. */
  async run(signal) {
    this.#fresh();
    signal.addEventListener('abort', () => this.#round.abort(), { once: true });
    while (!signal.aborted) {
      this.#round = new AbortController();
      const tasks = await this.#core.following();
      if (signal.aborted) return;
      if (tasks.length) {
        this.#rung = await this.#step(tasks);
      } else {
        this.#core.channel('idle', 'nothing to follow');
        await this.#wait(Infinity);
        this.#rung = 'stream';
      }
    }
  }

  /** Whether a stream is open, which may be dead. */
  get streaming() {
    return this.#events.open;
  }

  /**
   * Something has changed: the tasks to follow (`ids`), or the world (`offline`, or anything that may be for the better).
   *
   * @param reached false where the backend was just asked, and gave no answer.
   */
  kick(why, { reached = true } = {}) {
    if (why === 'ids') {
      if (this.#events.open) return this.#reopenFor();
    } else if (why !== 'offline') {
      this.#fresh();
      if (reached && this.#events.silence < QUIET) return; // it is well
      this.#doubted ||= !reached || this.#events.open;
    }
    this.#round.abort();
  }

  #fresh() {
    this.#failures = this.#probe = this.#streamAt = this.#mirrorAt = this.#mirrorFailures = 0;
    this.#pace = new PollPace(this.#times.poll);
  }

  async #reopenFor() {
    const round = this.#round;
    const tasks = await this.#core.following();
    if (this.#round === round && this.#events.lacks(tasks)) round.abort();
  }

  #step(tasks) {
    if (this.#rung === 'stream' && this.#mayStream(tasks)) return this.#stream(tasks);
    if (this.#rung === 'monitor') return this.#monitor(tasks);
    if (this.#rung === 'blocked') return this.#blocked(tasks);
    return this.#poll(tasks);
  }

  /**
   * A page that nobody looks at has no stream: the server takes what it sends to one for seen, and would drop the push.
   */
  #mayStream(tasks) {
    return tasks.length <= MAX_IDS && this.#core.visible();
  }

  // -- stream -------------------------------------------------------------------------------------------------------

  async #stream(tasks) {
    const round = this.#round.signal;
    if (this.#doubted) {
      const next = await this.#check(tasks, 'the backend does not answer');
      if (next !== 'poll' || round.aborted) return next === 'poll' ? 'stream' : next;
    }
    const end = await this.#events.follow(tasks, round, () => {
      this.#reached();
      this.#core.channel('stream', 'live');
    });
    if (end.over) return 'stream';
    if (end.status !== undefined) return this.#noStream(end.status);
    if (end.heard) this.#failures = 0;
    if (round.aborted) return 'stream';
    this.#doubted = end.lost;
    this.#failures += 1;
    // A look at the status says at once whether the backend is there, and what happened meanwhile.
    const next = await this.#check(tasks, end.why);
    if (next !== 'poll') return next;
    if (this.#failures >= STREAM_TRIES) {
      this.#streamAt = performance.now() + STREAM_AGAIN;
      this.#core.channel('poll', end.why);
      return 'poll';
    }
    await this.#wait(Math.random() * Math.min(SLOWEST_STREAM, (end.retry ?? 500) * 2 ** this.#failures));
    return 'stream';
  }

  #noStream(status) {
    if (status === 401) return 'blocked';
    // 204: there is nothing left to tell. 404: none of them is there. 503: no place for a stream. 200: not our server's.
    this.#streamAt = performance.now() + STREAM_AGAIN;
    this.#core.channel('poll', status === 204 ? 'the stream is over' : `no stream (${status})`);
    return 'poll';
  }

  // -- poll ---------------------------------------------------------------------------------------------------------

  async #poll(tasks) {
    const next = await this.#check(tasks, 'the backend does not answer');
    if (next !== 'poll') return next;
    if (this.#mayStream(tasks) && performance.now() >= this.#streamAt) return 'stream';
    this.#core.channel('poll', 'asking for the status');
    await this.#wait(this.#pace.next(this.#core.visible()));
    return 'poll';
  }

  /** One look at the status of all. Returns `poll`, or where to go where the backend gives none. */
  async #check(tasks, why) {
    const round = this.#round.signal;
    const gone = [];
    const probe = this.#lostAt !== null ? LATER : this.#doubted ? FIRST : null;
    this.#pace.retryAfter = null;
    this.#busy = null;
    try {
      for await (const { tasks: found, missing } of askAll(this.#http, tasks.map(({ request_id }) => request_id), { signal: round, probe })) {
        for (const brief of found) {
          this.#pace.saw(brief);
          this.#core.sighting({ ...sightingOf(brief), via: 'poll' });
        }
        gone.push(...missing);
      }
    } catch (error) {
      if (round.aborted) return this.#rung === 'stream' ? 'stream' : 'poll';
      if (error instanceof Refused && error.status === 401) return 'blocked';
      const busy = error.status === 429 || error.status >= 500;
      if (error instanceof Refused && !busy) {
        this.#pace.retryAfter = error.retryAfter ?? 5000; // something between us and the backend
        return 'poll';
      }
      if (this.#lostAt === null) this.#lostAt = performance.now();
      if (busy) this.#busy = error.retryAfter ?? 0;
      this.#core.channel(this.#mirror ? 'monitor' : busy ? 'busy' : 'offline', busy ? `${error.status}: ${error.message}` : why);
      return 'monitor';
    }
    this.#reached();
    if (gone.length) this.#core.missing(gone);
    return 'poll';
  }

  // -- monitor ------------------------------------------------------------------------------------------------------

  async #monitor(tasks) {
    const now = performance.now();
    if (this.#mirror && now >= this.#mirrorAt) {
      const read = await this.#readMirror(tasks);
      this.#mirrorFailures = read ? 0 : this.#mirrorFailures + 1;
      const pause = Math.min(SLOWEST_MIRROR, this.#times.monitor * 2 ** this.#mirrorFailures);
      this.#mirrorAt = performance.now() + pause * (0.9 + 0.2 * Math.random());
      if (read || this.#busy === null) this.#core.channel(read ? 'monitor' : 'offline', read ? 'asking Firestore' : 'no connection');
    }
    const pause = this.#pause();
    this.#probe += 1;
    await this.#wait(Math.min(pause, this.#mirror ? Math.max(0, this.#mirrorAt - performance.now()) : Infinity));
    const left = await this.#core.following();
    const next = await this.#check(left.length ? left : tasks, 'the backend does not answer');
    return next === 'poll' ? 'stream' : next;
  }

  /** How long until the next probe. A network that comes back is found soon; a server is given the time that it asks for. */
  #pause() {
    const random = 0.5 + 0.5 * Math.random();
    if (this.#busy !== null) return Math.max(this.#busy * (1 + 0.2 * random), Math.min(SLOWEST_PROBE, 1000 * 2 ** this.#probe) * random);
    const soon = this.#core.visible() && performance.now() - this.#lostAt < NEW_FOR;
    return Math.min(soon ? SOON : SLOWEST_PROBE, 1000 * 2 ** this.#probe) * random;
  }

  async #readMirror(tasks) {
    let reached = false;
    for (const { request_id, attempt } of tasks) {
      try {
        const found = await this.#mirror.get(request_id);
        reached = true;
        if (found) this.#core.sighting({ attempt, ...found, request_id, via: 'firestore' });
      } catch {
        if (!reached) return false; // as it will be for the others
      }
    }
    return reached;
  }

  // -- the rest -----------------------------------------------------------------------------------------------------

  async #blocked(tasks) {
    this.#core.channel('blocked', 'the server wants a login');
    this.#core.blocked(401);
    await this.#wait(STREAM_AGAIN);
    const next = await this.#check(tasks, 'the backend does not answer');
    return next === 'poll' ? 'stream' : next;
  }

  #reached() {
    this.#probe = 0;
    this.#doubted = false;
    if (this.#lostAt === null) return;
    const after = performance.now() - this.#lostAt;
    this.#lostAt = null;
    this.#core.back(after);
  }

  /** Wait, or until something happens. A timer that comes much too late was asleep with the whole device. */
  #wait(milliseconds) {
    const signal = this.#round.signal;
    const from = performance.now();
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const timer = milliseconds === Infinity ? null : setTimeout(() => {
        signal.removeEventListener('abort', stop);
        if (performance.now() - from > 2 * milliseconds + 5000) this.#core.slept();
        resolve();
      }, milliseconds);
      const stop = () => { clearTimeout(timer); resolve(); };
      signal.addEventListener('abort', stop, { once: true });
    });
  }
}
