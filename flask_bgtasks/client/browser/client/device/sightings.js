// The single place where news of tasks comes in, from a stream, a poll, a push or the mirror.
// It decides by the record, in one transaction, whether something is news; then all tabs hear of it.

import { asRequestId, isRequestId } from '../ids.js';
import * as records from '../records.js';
import { kind } from '../view.js';

const SAVE_EVERY = 1000; // the place in a stream: what is not kept is told again, and dropped

export class Sightings {
  #store;
  #hub;
  #owner;
  #cursors = new Map(); // of the stream, not saved yet, by request id
  #saving = null;

  constructor({ store, hub, owner }) {
    this.#store = store;
    this.#hub = hub;
    this.#owner = owner;
  }

  /** What is to be followed, newest first, with the place in its stream. */
  async following() {
    const all = await this.#store.all();
    const mine = all.filter(({ owner, state, request_id: id }) => owner === this.#owner && state === 'following' && id);
    return mine.sort((a, b) => b.created_at - a.created_at)
      .map((record) => ({ ...record, cursor: Math.max(record.cursor, this.#cursors.get(record.request_id) ?? 0) }));
  }

  /** An event of the stream. An end is not told before the status has said that it is the last one. */
  streamed(requestId, event) {
    this.#cursors.set(requestId, event.seq);
    this.#saving ??= setTimeout(() => this.save(), SAVE_EVERY);
    if (records.TERMINAL.has(event.name)) return;
    this.#hub.send({ type: 'event', requestId, event: { ...event, type: kind(event.name) } });
  }

  /**
   * A task was seen. Whether that was news.
   *
   * @param create take a task that is not known here for one of this device.
   */
  async sight(sighting, { create = false } = {}) {
    if (!isRequestId(sighting?.request_id)) return false;
    const now = Date.now();
    const over = records.TERMINAL.has(sighting.status);
    const { known, next } = await this.#store.write(async (rows) => {
      const found = await rows.find(sighting.request_id);
      if (isOthers(found, this.#owner)) return {};
      const known = found ?? (create ? records.known(sighting.request_id, { now, owner: this.#owner }) : null);
      const next = known && (over ? records.settled(known, sighting, now) : records.progressed(known, sighting, now));
      if (next) await rows.put(next);
      return { known, next };
    }, { durable: over });
    if (known) this.#hub.send({ type: 'sighting', sighting });
    if (!next) return false;
    this.#hub.send({ type: 'records', key: next.key });
    if (!over) return true;
    if (sighting.via === 'firestore') {
      const detail = 'the outcome was read without the backend';
      this.#hub.send({ type: 'recovered', detail: { requestId: sighting.request_id, how: 'firestore', after: null, detail } });
    }
    if (next.state === 'settled') this.#hub.send({ type: 'settled', key: next.key });
    return true;
  }

  /** Whether a task is followed on this device by another owner, who is not told here. */
  async isAnothers(requestId) {
    const found = (await this.#store.all()).find((record) => record.request_id === requestId);
    return isOthers(found, this.#owner);
  }

  /** The backend does not know these. Returns the records of those that are gone by now. */
  async missing(ids) {
    const gone = [];
    for (const id of ids) {
      const next = await this.#store.changeTask(id, (record) => records.missed(record, Date.now()));
      if (next?.state === 'gone') gone.push(next);
    }
    return gone;
  }

  /** Keep this record, unless the task is known: then that one. */
  insert(record) {
    asRequestId(record.request_id, 'follow');
    return this.#store.write(async (rows) => {
      const known = await rows.find(record.request_id);
      if (known && known.owner === this.#owner && !known.hidden) return { stored: known, made: false };
      const stored = known ? { ...known, owner: this.#owner, hidden: false } : record;
      await rows.put(stored);
      return { stored, made: true };
    });
  }

  /** Keep the places in the stream. */
  save() {
    clearTimeout(this.#saving);
    this.#saving = null;
    const cursors = [...this.#cursors];
    if (!cursors.length) return;
    this.#store.write(async (rows) => {
      for (const [requestId, seq] of cursors) {
        const record = await rows.find(requestId);
        const next = record && records.read(record, seq);
        if (next) await rows.put(next);
        else if (record?.state !== 'following') this.#cursors.delete(requestId);
      }
    }, { durable: false }).catch(() => {});
  }
}

function isOthers(record, owner) {
  return record !== undefined && record.owner !== null && record.owner !== owner;
}
