// Reads the mirror in Cloud Firestore over REST: nothing to load, no listener to keep alive.
// Source of addresses and values: firebase.google.com/docs/firestore/reference/rest.

import { asRequestId } from '../ids.js';
import { Deadline } from './deadline.js';

/** See client.d.ts. */
export function restReader(options) {
  return new RestReader(options);
}

const STATUS_FIELDS = ['status', 'seq', 'attempt', 'error_message'];

class RestReader {
  #base;
  #token;
  #tasks;
  #progress;
  #timeout;
  #fetch;

  constructor({
    projectId, idToken = () => null, database = '(default)', tasks = 'background_tasks', progress = 'request_progress',
    host = 'https://firestore.googleapis.com', timeout = 10_000, fetch = globalThis.fetch.bind(globalThis),
  }) {
    this.#base = `${host}/v1/projects/${projectId}/databases/${database}/documents`;
    this.#token = idToken;
    this.#tasks = tasks;
    this.#progress = progress;
    this.#timeout = timeout;
    this.#fetch = fetch;
  }

  async get(requestId) {
    const mask = STATUS_FIELDS.map((field) => `mask.fieldPaths=${field}`).join('&'); // the result stays where it is
    const task = await this.#read(`/${this.#tasks}/${named(requestId)}?${mask}`);
    if (!task) return null;
    const over = ['completed', 'failed', 'cancelled'].includes(task.status);
    const progress = over ? null : await this.#read(`/${this.#progress}/${named(requestId)}`);
    // Progress is newer than the task's own document, which changes with its status only.
    const seq = task.seq === undefined ? null : Math.max(task.seq, progress?.seq ?? 0);
    return { ...task, seq, attempt: task.attempt ?? 0, progress };
  }

  async result(requestId) {
    const task = await this.#read(`/${this.#tasks}/${named(requestId)}`);
    if (!task || task.status !== 'completed') throw new Error(`task ${requestId}: the mirror has no result`);
    const marker = task.result_chunks;
    if (!marker) return task.result_encoding === 'json' ? JSON.parse(task.result_data) : task.result_data;
    const blob = new Blob(await this.#chunks(requestId), { type: marker.content_type ?? '' });
    if (blob.size !== marker.bytes) throw new Error(`task ${requestId}: its chunks are incomplete; read them again`);
    return /json/.test(blob.type) ? JSON.parse(await blob.text()) : blob;
  }

  async #chunks(requestId) {
    const bytes = [];
    let page = '';
    do {
      const after = page && `&pageToken=${encodeURIComponent(page)}`;
      const path = `/${this.#tasks}/${named(requestId)}/chunks?pageSize=20&orderBy=number${after}`;
      const found = await this.#ask(path);
      for (const document of found?.documents ?? []) bytes.push(fields(document).data);
      page = found?.nextPageToken;
    } while (page);
    return bytes;
  }

  async #read(path) {
    const found = await this.#ask(path);
    return found && fields(found);
  }

  /** Null where there is no such document: the usual rules answer 403 for one, since nobody owns it. */
  async #ask(path) {
    for (const refresh of [false, true]) {
      const token = await this.#token({ refresh });
      const deadline = new Deadline(this.#timeout);
      try {
        const headers = token ? { Authorization: `Bearer ${token}` } : {};
        const answer = await this.#fetch(this.#base + path, { headers, signal: deadline.signal });
        if (answer.ok) return await answer.json();
        if (answer.status === 403 || answer.status === 404) return null;
        if (answer.status !== 401 || refresh) throw new Error(`Firestore answered ${answer.status}`);
      } finally {
        deadline.end();
      }
    }
    return null;
  }
}

function named(requestId) {
  return encodeURIComponent(asRequestId(requestId, 'restReader'));
}

function fields(document) {
  return Object.fromEntries(Object.entries(document.fields ?? {}).map(([name, value]) => [name, plain(value)]));
}

/** A value of the REST API as JavaScript has it. */
function plain(value) {
  const [[kind, given]] = Object.entries(value);
  if (kind === 'mapValue') return fields(given);
  if (kind === 'arrayValue') return (given.values ?? []).map(plain);
  if (kind === 'integerValue') return Number(given);
  if (kind === 'bytesValue') return Uint8Array.from(atob(given), (character) => character.charCodeAt(0));
  return kind === 'nullValue' ? null : given;
}
