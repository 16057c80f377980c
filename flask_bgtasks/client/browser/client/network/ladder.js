// How tasks are followed, in the one tab that leads: a stream; else polls; else the mirror, beside a probe of the backend.
// A loop over rungs; each rung does one round and names the next. What is learnt goes to `core`; nothing is kept here
// but where the stream is.

import { readEvents } from './sse.js';
import { Refused, Unreachable } from './http.js';
import { listOf } from '../ids.js';
import { TERMINAL } from '../records.js';
import { MAX_IDS, statuses } from './statuses.js';

const LOST = 'the connection was lost';
const LOSSES = new Set(['TypeError', 'AbortError', 'NetworkError']); // of a body whose line broke, by browser
const STREAM_TRIES = 3;
const STREAM_AGAIN = 30_000; // while polling
const SLOWEST_POLL = 5000;
const HIDDEN = 5; // times slower where nobody looks
const PATIENCE = 60_000; // without a change, after which polls become slower
const SLOWEST_PROBE = 30_000;
const SLOWEST_MIRROR = 120_000;
const QUIET = 20_000; // a stream that was silent for longer than a ping is not trusted after a sleep

export class Ladder {
  #http;
  #mirror;
  #core;
  #times;
  #round = new AbortController(); // of what is waited for now; aborted by a kick
  #cursors = new Map(); // by request id: the last event of the stream
  #rung = 'stream';
  #streaming = null; // {ids, heard}
  #failures = 0; // of the stream, in a row
  #streamAt = 0; // not before
  #polls = polls();
  #probe = 0; // probes in a row without an answer
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

  /** Something has changed: the tasks to follow (`ids`), or the world (`offline`, or anything that may be for the better). */
  kick(why) {
    if (why === 'ids') {
      if (this.#streaming) return this.#reopenFor();
    } else if (why !== 'offline') {
      this.#fresh();
      if (this.#streaming && performance.now() - this.#streaming.heard < QUIET) return; // it is well
    }
    this.#round.abort();
  }

  #fresh() {
    this.#failures = this.#probe = this.#streamAt = this.#mirrorAt = this.#mirrorFailures = 0;
    this.#polls = polls();
  }

  async #reopenFor() {
    const streaming = this.#streaming;
    const tasks = await this.#core.following();
    if (this.#streaming === streaming && tasks.some(({ request_id }) => !streaming.ids.has(request_id))) this.#round.abort();
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
    const silence = new AbortController();
    let watchdog;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => silence.abort(), this.#times.stall);
      if (this.#streaming) this.#streaming.heard = performance.now();
    };
    let base = 500;
    let why = 'the stream ended';
    try {
      const { path, headers } = this.#place(tasks);
      const signal = AbortSignal.any([round, silence.signal]);
      const answer = await this.#http.send(path, { headers: { Accept: 'text/event-stream', ...headers }, signal });
      const refused = this.#refusal(answer);
      if (refused) return refused;
      this.#streaming = { ids: new Set(tasks.map(({ request_id }) => request_id)), heard: performance.now() };
      this.#reached();
      this.#core.channel('stream', 'live');
      alive();
      const asked = new Set(this.#streaming.ids);
      const ended = new Set();
      for await (const { event, data, retry } of readEvents(answer.body, alive)) {
        if (retry !== null) base = retry;
        this.#failures = 0;
        await this.#heard(event, data, asked, ended);
      }
      if (ended.size === tasks.length) return 'stream'; // as it should
    } catch (error) {
      why = silence.signal.aborted ? 'nothing came for too long' : LOST;
      if (!(error instanceof Unreachable) && !(error instanceof Refused) && !LOSSES.has(error.name)) console.error('bgtasks: a stream broke off', error);
    } finally {
      clearTimeout(watchdog);
      this.#streaming = null;
    }
    if (round.aborted) return 'stream';
    this.#failures += 1;
    // A look at the status says at once whether the backend is there, and what happened meanwhile.
    const next = await this.#check(tasks, why);
    if (next !== 'poll') return next;
    if (this.#failures >= STREAM_TRIES) {
      this.#streamAt = performance.now() + STREAM_AGAIN;
      this.#core.channel('poll', why);
      return 'poll';
    }
    await this.#wait(Math.random() * Math.min(30_000, base * 2 ** this.#failures));
    return 'stream';
  }

  /** Where the client is in each task, by an address where it fits into one: a header costs a preflight. */
  #place(tasks) {
    const at = tasks.map(({ request_id, cursor }) => [request_id, Math.max(cursor, this.#cursors.get(request_id) ?? 0)]);
    const place = at.filter(([, seq]) => seq).map(([id, seq]) => `${id}:${seq}`).join(',');
    const path = `/events?ids=${listOf(at.map(([id]) => id))}`;
    if (!place) return { path, headers: {} };
    if (place.length < 1000) return { path: `${path}&starting_after=${place}`, headers: {} };
    return { path, headers: { 'Last-Event-ID': place } };
  }

  #refusal(answer) {
    const type = answer.headers.get('content-type') ?? '';
    if (answer.status === 200 && type.startsWith('text/event-stream')) return null;
    answer.body?.cancel().catch(() => {});
    if (answer.status === 401) return 'blocked';
    // 204: there is nothing left to tell. 404: none of them is there. 503: no place for a stream. 200: not our server's.
    this.#streamAt = performance.now() + STREAM_AGAIN;
    this.#core.channel('poll', answer.status === 204 ? 'the stream is over' : `no stream (${answer.status})`);
    return 'poll';
  }

  async #heard(name, text, asked, ended) {
    if (name === 'ping') return;
    const data = JSON.parse(text);
    if (name === 'missing') return this.#confirm(data.missing.filter((id) => asked.has(id)), ended);
    const id = data.request_id;
    if (!asked.has(id)) return;
    if (data.seq <= (this.#cursors.get(id) ?? 0)) return; // the same again
    this.#cursors.set(id, data.seq);
    this.#core.event(id, { name, seq: data.seq, attempt: data.attempt ?? 0, data, via: 'stream' });
    if (!TERMINAL.has(name)) return;
    // After a retry the history holds earlier ends too: the status says whether this is the last one.
    await this.#confirm([id], ended);
  }

  /** What the status says of these, because of what a stream said. */
  async #confirm(ids, ended) {
    for await (const { tasks, missing } of this.#ask(ids)) {
      if (missing.length) this.#core.missing(missing);
      for (const brief of tasks) {
        await this.#core.sighting({ ...sightingOf(brief), via: 'stream' });
        if (!brief.done) continue;
        ended.add(brief.request_id);
        this.#streaming?.ids.delete(brief.request_id); // if it is retried, this stream will not tell of it
      }
    }
  }

  // -- poll ---------------------------------------------------------------------------------------------------------

  async #poll(tasks) {
    const next = await this.#check(tasks, 'the backend does not answer');
    if (next !== 'poll') return next;
    if (this.#mayStream(tasks) && performance.now() >= this.#streamAt) return 'stream';
    this.#core.channel('poll', 'asking for the status');
    const quiet = performance.now() - this.#polls.changed;
    this.#polls.slow = quiet > PATIENCE ? Math.min(this.#polls.slow * 1.5, 5) : 1;
    const wanted = (this.#times.poll ?? this.#polls.after ?? 1000) * this.#polls.slow;
    const interval = Math.min(SLOWEST_POLL, this.#core.visible() ? wanted : wanted * HIDDEN);
    await this.#wait(Math.max(interval, this.#polls.retryAfter ?? 0) * (0.8 + 0.4 * Math.random()));
    return 'poll';
  }

  /** One look at the status of all. Returns `poll`, or where to go where the backend gives none. */
  async #check(tasks, why) {
    const round = this.#round.signal;
    const gone = [];
    this.#polls.retryAfter = null;
    try {
      for await (const { tasks: found, missing } of this.#ask(tasks.map(({ request_id }) => request_id))) {
        for (const brief of found) this.#sighted(brief);
        gone.push(...missing);
      }
    } catch (error) {
      if (round.aborted) return this.#rung === 'stream' ? 'stream' : 'poll';
      if (error instanceof Refused && error.status === 401) return 'blocked';
      if (error instanceof Refused && error.status < 500) {
        this.#polls.retryAfter = error.retryAfter ?? 5000; // 429, or something between us and the backend
        return 'poll';
      }
      if (this.#lostAt === null) this.#lostAt = performance.now();
      this.#core.channel(this.#mirror ? 'monitor' : 'offline', why);
      return 'monitor';
    }
    this.#reached();
    if (gone.length) this.#core.missing(gone);
    return 'poll';
  }

  /** A login that has expired is refused like any other. */
  async *#ask(ids) {
    for await (const found of statuses(this.#http, ids, { signal: this.#round.signal })) {
      if (found.expired) throw new Refused(401, {}, null);
      yield found;
    }
  }

  #sighted(brief) {
    if (brief.poll_after_ms) this.#polls.after = brief.poll_after_ms;
    if (brief.seq > (this.#polls.seen.get(brief.request_id) ?? 0)) {
      this.#polls.seen.set(brief.request_id, brief.seq);
      this.#polls.changed = performance.now();
    }
    this.#core.sighting({ ...sightingOf(brief), via: 'poll' });
  }

  // -- monitor ------------------------------------------------------------------------------------------------------

  async #monitor(tasks) {
    const now = performance.now();
    if (this.#mirror && now >= this.#mirrorAt) {
      const read = await this.#readMirror(tasks);
      this.#mirrorFailures = read ? 0 : this.#mirrorFailures + 1;
      const pause = Math.min(SLOWEST_MIRROR, this.#times.monitor * 2 ** this.#mirrorFailures);
      this.#mirrorAt = performance.now() + pause * (0.9 + 0.2 * Math.random());
      this.#core.channel(read ? 'monitor' : 'offline', read ? 'asking Firestore' : 'no connection');
    }
    const pause = Math.min(SLOWEST_PROBE, 1000 * 2 ** this.#probe) * (0.5 + 0.5 * Math.random());
    this.#probe += 1;
    await this.#wait(Math.min(pause, this.#mirror ? Math.max(0, this.#mirrorAt - performance.now()) : Infinity));
    const left = await this.#core.following();
    const next = await this.#check(left.length ? left : tasks, 'the backend does not answer');
    return next === 'poll' ? 'stream' : next;
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

/** What is known from polls: how much slower than usual, when a task last changed, the newest number of each. */
function polls() {
  return { slow: 1, changed: performance.now(), seen: new Map(), after: null, retryAfter: null };
}

function sightingOf({ request_id, status, seq, attempt, progress, error_message }) {
  return { request_id, status, seq, attempt, progress, error_message };
}
