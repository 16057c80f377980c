// One stream of events after another, for all tasks that are followed; and where the client is in each of them.

import { Deadline } from './deadline.js';
import { readEvents } from './sse.js';
import { Refused, Unreachable } from './http.js';
import { listOf } from '../ids.js';
import { TERMINAL } from '../records.js';
import { askAll, sightingOf } from './statuses.js';

const LOSSES = new Set(['TypeError', 'AbortError', 'NetworkError']); // of a body whose line broke, by browser
const HEADERS = 10_000; // milliseconds for a stream to begin
const MAX_PLACE = 1000; // characters in an address; longer ones go into a header

export class Stream {
  #http;
  #core;
  #stall;
  #open = null; // {ids, heard}
  #cursors = new Map(); // by request id: the last event

  /**
   * @param core `event(id, event)`, `sighting(…)`, `missing(ids)`, of `Ladder`'s.
   * @param stall milliseconds after which a stream that says nothing, not even a ping, is given up.
   */
  constructor({ http, core, stall }) {
    this.#http = http;
    this.#core = core;
    this.#stall = stall;
  }

  /** Whether one is open. */
  get open() {
    return this.#open !== null;
  }

  /** Milliseconds since anything was heard of the open one; Infinity without one. */
  get silence() {
    return this.#open ? performance.now() - this.#open.heard : Infinity;
  }

  /** Whether the open one does not tell of all of these. */
  lacks(tasks) {
    return this.open && tasks.some(({ request_id }) => !this.#open.ids.has(request_id));
  }

  /**
   * Follow until it ends. `{over: true}` where every task has ended; `{status}` where the backend gives no stream; else
   * `{why, heard, retry, lost}`: whether there were events, the milliseconds that the server asks to wait, if it does,
   * and whether the connection was lost, in silence or, where TCP noticed first (Firefox has it look), by an error.
   *
   * @param opened called when the backend has answered with a stream.
   */
  async follow(tasks, signal, opened) {
    const silence = new Deadline(HEADERS, signal);
    const alive = () => {
      silence.in(this.#stall);
      if (this.#open) this.#open.heard = performance.now();
    };
    const end = { why: 'the stream ended', heard: false, retry: null, lost: false };
    try {
      const { path, headers } = this.#place(tasks);
      const answer = await this.#http.send(path, { headers: { Accept: 'text/event-stream', ...headers }, deadline: silence });
      if (!isStream(answer)) {
        answer.body?.cancel().catch(() => {});
        return { status: answer.status };
      }
      const asked = new Set(tasks.map(({ request_id }) => request_id));
      this.#open = { ids: new Set(asked), heard: performance.now() };
      opened();
      alive();
      const ended = new Set();
      for await (const { event, data, retry } of readEvents(answer.body, alive)) {
        if (retry !== null) end.retry = retry;
        end.heard = true;
        await this.#heard(event, data, { asked, ended, signal });
      }
      if (ended.size === tasks.length) return { over: true }; // as it should
    } catch (error) {
      end.lost = true;
      end.why = silence.late ? 'nothing came for too long' : 'the connection was lost';
      if (!(error instanceof Unreachable) && !(error instanceof Refused) && !LOSSES.has(error.name)) console.error('bgtasks: a stream broke', error);
    } finally {
      silence.end();
      this.#open = null;
    }
    return end;
  }

  /** Where the client is in each task, by an address where it fits into one: a header costs a preflight. */
  #place(tasks) {
    const at = tasks.map(({ request_id, cursor }) => [request_id, Math.max(cursor, this.#cursors.get(request_id) ?? 0)]);
    const place = at.filter(([, seq]) => seq).map(([id, seq]) => `${id}:${seq}`).join(',');
    const path = `/events?ids=${listOf(at.map(([id]) => id))}`;
    if (!place) return { path, headers: {} };
    if (place.length < MAX_PLACE) return { path: `${path}&starting_after=${place}`, headers: {} };
    return { path, headers: { 'Last-Event-ID': place } };
  }

  async #heard(name, text, { asked, ended, signal }) {
    if (name === 'ping') return;
    const data = JSON.parse(text);
    if (name === 'missing') return this.#confirm(data.missing.filter((id) => asked.has(id)), ended, signal);
    const id = data.request_id;
    if (!asked.has(id)) return;
    if (data.seq <= (this.#cursors.get(id) ?? 0)) return; // the same again
    this.#cursors.set(id, data.seq);
    this.#core.event(id, { name, seq: data.seq, attempt: data.attempt ?? 0, data, via: 'stream' });
    if (!TERMINAL.has(name)) return;
    // After a retry the history holds earlier ends too: the status says whether this is the last one.
    await this.#confirm([id], ended, signal);
  }

  /** What the status says of these, because of what a stream said. */
  async #confirm(ids, ended, signal) {
    for await (const { tasks, missing } of askAll(this.#http, ids, { signal })) {
      if (missing.length) this.#core.missing(missing);
      for (const brief of tasks) {
        await this.#core.sighting({ ...sightingOf(brief), via: 'stream' });
        if (!brief.done) continue;
        ended.add(brief.request_id);
        this.#open?.ids.delete(brief.request_id); // if it is retried, this stream will not tell of it
      }
    }
  }
}

function isStream(answer) {
  return answer.status === 200 && (answer.headers.get('content-type') ?? '').startsWith('text/event-stream');
}
