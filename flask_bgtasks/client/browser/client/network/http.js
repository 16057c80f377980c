// Requests to the backend: an answer, or `Unreachable`. When to try again is for the caller to say; only a 401 is tried
// once more here, where the headers have changed since.

import { Deadline } from './deadline.js';
import { isJSON, isRefusal, parsed, record, unlike } from '../provenance.js';

const TIMEOUT = 10_000; // milliseconds for an answer

/** No answer of the backend: no network, nobody there, not in time, or only that of something on the way (`status`). */
export class Unreachable extends Error {
  constructor(message, { status = null, retryAfter = null } = {}) {
    super(message);
    this.name = 'Unreachable';
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** An address without slashes at its end. Not by a pattern: `/+$` looks at each slash of a row again and again. */
export function withoutSlashes(address) {
  let end = address.length;
  while (address[end - 1] === '/') end -= 1;
  return address.slice(0, end);
}

export class Http {
  #headers;
  #credentials;
  #fetch;

  /** `base`: the blueprint's address. */
  constructor({ base, headers, credentials = 'same-origin', fetch = globalThis.fetch.bind(globalThis) }) {
    this.base = withoutSlashes(String(base));
    this.#headers = headers;
    this.#credentials = credentials;
    this.#fetch = fetch;
  }

  /** Whether requests carry headers that only the page knows. */
  get needsPage() {
    return this.#headers !== undefined;
  }

  /**
   * The answer, whatever its status. `url` is absolute, or a path or query under the blueprint: `/stats`, `?ids=…`.
   *
   * @param deadline for the headers and the body: whoever reads that ends it.
   */
  async send(url, { method = 'GET', headers = {}, body, deadline } = {}) {
    const ask = (own) => this.#fetch(/^[/?]/.test(url) ? this.base + url : url, {
      method, body, headers: { ...own, ...headers }, credentials: this.#credentials, cache: 'no-store', signal: deadline.signal,
    });
    try {
      const own = await this.#own();
      const answer = await ask(own);
      if (answer.status !== 401) return answer;
      const fresh = await this.#own(); // the token may have been refreshed while the request was on its way
      return JSON.stringify(fresh) === JSON.stringify(own) ? answer : await ask(fresh);
    } catch (error) {
      throw new Unreachable(`${method} ${url}: ${deadline.late ? 'no answer in time' : error.message}`);
    }
  }

  async #own() {
    return typeof this.#headers === 'function' ? this.#headers() : this.#headers;
  }

  /** A JSON answer, all of it in time; null for one without a body. Rejects with `Refused` or `Unreachable`. */
  async json(url, { timeout = TIMEOUT, signal, ...options } = {}) {
    const deadline = new Deadline(timeout, signal);
    try {
      const answer = await this.send(url, { ...options, deadline });
      if (answer.status === 204 || answer.status === 304) return null;
      if (!answer.ok) throw await refusal(answer);
      return await answer.json();
    } catch (error) {
      if (error instanceof Refused || error instanceof Unreachable) throw error;
      // A login page of a hotel's network, or a line that broke in the middle: neither is the backend's word.
      throw new Unreachable(`${url}: no JSON (${error.message})`);
    } finally {
      deadline.end();
    }
  }

  /** A body of any size: `{status, headers, type, blob, crossOrigin}`. Given up when nothing arrives for `stallAfter`. */
  async whole(url, { stallAfter = 40_000, ...options } = {}) {
    const deadline = new Deadline(stallAfter);
    try {
      const answer = await this.send(url, { ...options, deadline });
      const chunks = [];
      for (const reader = answer.body?.getReader(); reader;) {
        const { done, value } = await reader.read();
        if (done) break;
        chunks.push(value);
        deadline.in(stallAfter);
      }
      const type = answer.headers.get('content-type') ?? '';
      return { status: answer.status, headers: answer.headers, type, blob: new Blob(chunks, { type }), crossOrigin: answer.type === 'cors' };
    } catch (error) {
      if (error instanceof Unreachable) throw error;
      throw new Unreachable(`${url}: ${error.message}`);
    } finally {
      deadline.end();
    }
  }
}

/** The backend answered, and this is not what was asked for. A 401 or a 429 is believed of anybody. */
export class Refused extends Error {
  constructor(status, problem, retryAfter, { final = false } = {}) {
    super(problem.detail ?? problem.title ?? `the server answered ${status}`);
    this.name = 'Refused';
    this.status = status;
    this.problem = problem;
    this.retryAfter = retryAfter;
    this.final = final; // the view's own answer, whatever it looks like
  }
}

/**
 * What an error under the blueprint is: `Refused`, or `Unreachable` where it is not the backend's.
 *
 * @param answer `{status, statusText, headers, text()}`
 */
export async function refusal(answer) {
  const { status, statusText, headers } = answer;
  const document = isJSON(headers.get('content-type')) ? parsed(await answer.text()) : undefined;
  if (status !== 401 && status !== 429 && !isRefusal(answer, document)) return new Unreachable(unlike(answer).detail, { status, retryAfter: retryAfter(answer) });
  return new Refused(status, { title: statusText, status, ...record(document) }, retryAfter(answer));
}

/** `Retry-After` in milliseconds (RFC 9110, section 10.2.3), null where it says nothing. */
export function retryAfter(answer) {
  const text = answer.headers.get('retry-after');
  if (!text) return null;
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  const now = Date.parse(answer.headers.get('date') ?? '') || Date.now(); // the server's own clock, where it can be read
  return Number.isNaN(at) ? null : Math.max(0, at - now);
}
