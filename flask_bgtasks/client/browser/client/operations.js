// What an app asks of its tasks: submit one, follow, cancel, retry or remove it. Each changes records on this device, asks
// the backend where it has to, and wakes whatever goes on from there.

import { frozen, isPlain, newKey } from './device/outbox.js';
import { asRequestId, pathOf } from './ids.js';
import { Unreachable } from './network/http.js';
import * as records from './records.js';

const TOKEN_PATIENCE = 3000; // milliseconds for a token of the user: without a network there is no new one

export class Operations {
  #session;
  #handles;
  #sightings;
  #userToken;
  #send;
  #kick;

  /** `send()`: something waits to be sent; `kick()`: the tasks to follow have changed. */
  constructor(session, { handles, sightings, userToken, send, kick }) {
    this.#session = session;
    this.#handles = handles;
    this.#sightings = sightings;
    this.#userToken = userToken;
    this.#send = send;
    this.#kick = kick;
  }

  async submit(url, body, { key = newKey(), method, headers, label = null } = {}) {
    const { owner, http, store } = this.#session;
    const request = await frozen(url, await this.#withToken(body), { method, headers });
    const record = records.submission(key, { ...request, needs_page: http.needsPage }, { now: Date.now(), owner, label });
    const kept = await store.write(async (rows) => {
      const earlier = await rows.get(key);
      if (earlier) return earlier;
      await rows.put(record);
      return record;
    });
    if (kept.body_hash !== record.body_hash) throw new Error(`submit: the key ${key} was used for another request; leave it out, or use a new one`);
    // Asked once something is worth keeping, and only where it is decided in silence: Firefox would ask the user.
    if (navigator.userAgentData) navigator.storage?.persist?.().catch(() => {});
    const task = this.#handles.of(kept);
    this.#session.changed({ key });
    this.#send();
    return task;
  }

  follow(requestIdOrRecord, { after = 0, label = null } = {}) {
    const given = typeof requestIdOrRecord === 'object' ? requestIdOrRecord : null;
    const named = given ? given.request_id : requestIdOrRecord;
    const requestId = given && !named ? null : asRequestId(named, 'follow');
    const task = this.#handles.find({ key: given?.key, requestId });
    if (task) {
      task.after = after;
      return task;
    }
    if (!requestId) return this.#handles.of(given, { after });
    const made = this.#handles.of(given ?? records.known(requestId, { now: Date.now(), owner: this.#session.owner, label }), { after });
    this.#take(made);
    return made;
  }

  async cancel(requestId) {
    await this.#act(requestId, 'cancel');
  }

  async retry(requestId) {
    const { request_id: id } = await this.#act(requestId, 'retry');
    await this.#session.store.changeTask(id, (record) => records.reopened(record, Date.now()));
    this.#session.changed({ requestId: id });
    this.#kick();
  }

  async remove(requestIdOrKey) {
    await this.#session.store.write(async (rows) => {
      const record = (await rows.get(requestIdOrKey)) ?? (await rows.find(requestIdOrKey));
      if (!record) return;
      if (record.request_id || record.state === 'sending') await rows.put(records.dropped(record, Date.now()));
      else await rows.delete(record.key);
    });
    this.#session.changed({ key: this.#handles.forget(requestIdOrKey) });
    this.#kick();
  }

  /** Find the record of a handle that was made for an id, or keep the one that it was made with. */
  async #take(task) {
    const { stored, made } = await this.#sightings.insert(task.record);
    this.#handles.adopt(task, stored);
    if (made) {
      this.#session.changed({ key: stored.key });
      this.#kick();
    } else if (stored.seq) {
      task.sighted({ ...stored, seq: Math.max(stored.seq, stored.settled_seq), via: stored.via ?? 'poll' });
    }
  }

  async #act(requestId, what) {
    const id = asRequestId(requestId, what);
    const answer = await this.#session.http.json(pathOf(id, what), { method: 'POST' });
    if (answer?.request_id !== id) throw new Unreachable(`${what}: this answer is not the backend's`);
    return answer;
  }

  async #withToken(body) {
    if (!this.#userToken || !isPlain(body) || Array.isArray(body) || !body || 'user_token' in body) return body;
    const late = new Promise((resolve) => { setTimeout(resolve, TOKEN_PATIENCE); });
    const token = await Promise.race([this.#userToken(), late]).catch(() => null);
    return token ? { ...body, user_token: token } : body;
  }
}
