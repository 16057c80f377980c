// Sends what was submitted, whatever it takes: each record once, under its Idempotency-Key, until the server has it.
// Runs in pages and in the service worker; whoever has the lock sends for all.

import { Deadline } from '../network/deadline.js';
import { Unreachable, retryAfter } from '../network/http.js';
import { inTurn } from '../tabs/leader.js';
import { DOUBTED_FOR, judge } from '../provenance.js';
import * as records from '../records.js';

export const SYNC_TAG = 'bgtasks-outbox'; // of Background Sync, where a browser has it

const TIMEOUT = 30_000; // for the answer to a submission
const FIRST_WAIT = 500;
const MAX_WAIT = 30_000;
const MAX_DOUBT = 300_000; // between two tries that something on the way may answer: 24 hours of them are few hundred
const FAILING_FOR = 3_600_000; // that a 500 is answered: a fault that is the same after an hour of tries is no outage
const SMALL = 65_536; // bytes or characters that any network carries within SMALL_TIMEOUT
const SMALL_TIMEOUT = 10_000; // for the first tries, which may meet a connection that died in silence
const FIRST_TRIES = 3;
const AT_ONCE = 4;

/** A request as it can be kept: its body as bytes or text, so that every try sends the same. */
export async function frozen(url, body, { method = 'POST', headers = {} } = {}) {
  const kept = { url: new URL(url, globalThis.location?.href).href, method, headers: { ...headers }, body };
  const named = Object.keys(headers).some((name) => name.toLowerCase() === 'content-type');
  if (body === undefined || body === null) return { ...kept, body: null, body_hash: null };
  if (isPlain(body)) {
    kept.body = JSON.stringify(body);
    if (!named) kept.headers['Content-Type'] = 'application/json';
  } else if (typeof body !== 'string') {
    const packed = new Response(body); // a form gets its boundary here, once
    if (!named && packed.headers.get('content-type')) kept.headers['Content-Type'] = packed.headers.get('content-type');
    kept.body = await packed.blob();
  }
  return { ...kept, body_hash: await digest(kept.body) };
}

/** An Idempotency-Key: a random UUID, also where a page is no secure context (RFC 9562, version 4). */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Whether a body is sent as JSON. Objects may come from another frame, which has an `Object.prototype` of its own. */
export function isPlain(body) {
  if (typeof body !== 'object') return typeof body !== 'string';
  const prototype = Object.getPrototypeOf(body);
  return Array.isArray(body) || prototype === null || Object.getPrototypeOf(prototype) === null;
}

export class Outbox {
  #store;
  #http;
  #owner;
  #told;
  #name;
  #locks;
  #sends;

  /**
   * Sends what belongs to `owner`, and of that what `sends(record)` allows.
   * `told(name, record, detail)`: `accepted`, `rejected`, `blocked`, `postponed`.
   */
  constructor({ store, http, owner, name, locks, told, sends = () => true }) {
    this.#store = store;
    this.#http = http;
    this.#owner = owner;
    this.#name = name;
    this.#locks = locks;
    this.#told = told;
    this.#sends = sends;
  }

  /** Let what was refused for want of a login be sent again: there may be new credentials. */
  unblock() {
    return this.#store.write(async (rows) => {
      for (const record of await rows.all()) {
        const next = record.owner === this.#owner && records.unblocked(record, Date.now());
        if (next) await rows.put(next);
      }
    });
  }

  /** Send what is due. Returns how long until the next one is, in milliseconds; null when nothing waits. */
  async flush({ all = false } = {}) {
    if (!(await this.#waiting()).length) return null;
    await inTurn(`${this.#name}:outbox`, async () => {
      const tried = new Set();
      for (let due; (due = (await this.#due(all)).filter(({ key }) => !tried.has(key))).length;) {
        const batch = due.slice(0, AT_ONCE);
        for (const { key } of batch) tried.add(key);
        await Promise.all(batch.map((record) => this.#send(record)));
      }
    }, { patience: TIMEOUT + 5000, locks: this.#locks });
    const left = await this.#waiting();
    if (!left.length) return null;
    const now = Date.now();
    // Never longer than the whole wait was to be: the device's clock may have been set back since it began.
    return Math.max(0, Math.min(...left.map(({ next_try_at: at, changed_at: since }) => Math.min(at - now, at - since))));
  }

  async #waiting() {
    const all = await this.#store.all();
    const found = all.filter((record) => record.owner === this.#owner && ['queued', 'sending'].includes(record.state) && this.#sends(record));
    return found.sort((a, b) => a.created_at - b.created_at);
  }

  async #due(all) {
    const now = Date.now();
    // `now` before the moment in which the wait began: the device's clock was set back since.
    return (await this.#waiting()).filter(({ next_try_at: at, changed_at: since }) => all || at <= now || now < since);
  }

  async #send(record) {
    if (record.expires_at < Date.now()) {
      return this.#reject(record, { type: 'submission-expired', title: 'It could not be sent in time', detail: 'It waited for the network for seven days.' });
    }
    const sent = await this.#store.change(record.key, (stored) => records.sending(stored, Date.now()));
    if (!sent) return undefined; // withdrawn meanwhile
    let answer;
    let judged;
    const small = (sent.body?.size ?? sent.body?.length ?? 0) <= SMALL && sent.tries <= FIRST_TRIES;
    const deadline = new Deadline(small ? SMALL_TIMEOUT : TIMEOUT);
    try {
      answer = await this.#http.send(sent.url, {
        method: sent.method, body: sent.body ?? undefined, deadline,
        headers: { Prefer: 'respond-async', ...sent.headers, 'Idempotency-Key': sent.key },
      });
      judged = await judge(answer);
    } catch (error) {
      if (answer === undefined && !(error instanceof Unreachable)) throw error;
      return this.#postpone(sent, null); // no answer, or one that broke off
    } finally {
      deadline.end();
    }
    answer.body?.cancel().catch(() => {});
    const { verdict, requestId, problem } = judged;
    if (verdict === 'accepted') return this.#accept(sent, requestId);
    if (verdict === 'blocked') return this.#block(sent, answer.status);
    if (verdict === 'later') return this.#postpone(sent, retryAfter(answer), problem);
    if (verdict === 'rejected') return this.#reject(sent, problem);
    return this.#doubt(sent, problem, retryAfter(answer));
  }

  async #accept(record, requestId) {
    const stored = await this.#store.write(async (rows) => {
      const mine = await rows.get(record.key);
      const other = await rows.find(requestId);
      const next = mine && records.accepted(mine, requestId, Date.now(), other && other.key !== mine.key ? other : null);
      if (!next) return null;
      if (other && other.key !== next.key) await rows.delete(other.key);
      await rows.put(next);
      return next;
    });
    if (stored) this.#told('accepted', stored, { tries: stored.tries });
  }

  /** Later; `problem`: what the server says, if it was the server. One that fails is given an hour to be mended. */
  async #postpone(record, after, problem = null) {
    const now = Date.now();
    const again = problem && record.refusal?.status === problem.status;
    const refusal = problem && { ...problem, since: again ? record.refusal.since : now };
    if (refusal?.status === 500 && now - refusal.since >= FAILING_FOR) return this.#reject(record, problem);
    const at = whenAgain(record, after, MAX_WAIT);
    const stored = await this.#store.change(record.key, (known) => records.postponed(known, at, now, refusal));
    if (stored) this.#told('postponed', stored);
    return undefined;
  }

  /** Something answered that does not look like the backend: again, and after a day that is said. */
  async #doubt(record, problem, after) {
    const now = Date.now();
    const since = record.doubt?.since ?? now;
    if (now - since >= DOUBTED_FOR) return this.#reject(record, { ...problem, detail: `For ${DOUBTED_FOR / 3_600_000} hours: ${problem.detail}` });
    console.warn(`bgtasks: ${record.method} ${record.url} is retried. ${problem.detail}`);
    const at = whenAgain(record, after, MAX_DOUBT);
    const stored = await this.#store.change(record.key, (known) => records.doubted(known, { ...problem, since }, at, now));
    if (stored) this.#told('postponed', stored);
    return undefined;
  }

  async #block(record, status) {
    const stored = await this.#store.change(record.key, (known) => records.blocked(known, Date.now()));
    if (stored) this.#told('blocked', stored, { status });
  }

  async #reject(record, problem) {
    const stored = await this.#store.change(record.key, (known) => records.rejected(known, problem, Date.now()));
    if (stored) this.#told('rejected', stored, { problem });
  }
}

/** When to send it again: by the answer's Retry-After (milliseconds), else by backoff with full jitter. */
function whenAgain({ tries }, after, longest) {
  const jittered = Math.random() * Math.min(longest, FIRST_WAIT * 2 ** tries);
  return Date.now() + (after === null ? jittered : after + Math.random() * 1000);
}

async function digest(body) {
  const bytes = await new Blob([body]).arrayBuffer();
  if (!globalThis.crypto?.subtle) return `${bytes.byteLength}`; // not a secure context: told apart by size
  const found = await crypto.subtle.digest('SHA-256', bytes);
  return Array.from(new Uint8Array(found), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
