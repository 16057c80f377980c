// What this tab hears, from other tabs, the service worker and the outbox, and what the app hears of it: the client's events.

import { SYNC_TAG } from '../device/outbox.js';
import { visible } from './lifecycle.js';

export class Messages {
  #session;
  #handles;
  #sightings;
  #dispatch;
  #kick;
  #settled;
  #lookedAt;
  #workers = workers();
  #saysUnsent = false; // the channel is of what is not sent yet

  /**
   * @param dispatch `dispatch(type, detail)` tells the app; see EventMap in client.d.ts.
   * @param kick called when the tasks to follow have changed.
   * @param settled `settled(key)`: an outcome is known.
   * @param lookedAt called when the user looks at another tab.
   */
  constructor(session, { handles, sightings, dispatch, kick, settled, lookedAt }) {
    this.#session = session;
    this.#handles = handles;
    this.#sightings = sightings;
    this.#dispatch = dispatch;
    this.#kick = kick;
    this.#settled = settled;
    this.#lookedAt = lookedAt;
    session.hub.on((message, { remote }) => this.#heard(message, remote));
    this.#workers?.addEventListener('message', this.#fromWorker);
    this.#workers?.startMessages();
  }

  /** How tasks are followed at the moment; see Channel in client.d.ts. */
  channel = 'idle';

  close() {
    this.#workers?.removeEventListener('message', this.#fromWorker);
  }

  /** The outbox has sent this record, or could not. */
  posted(what, record, { tries = 0, status, problem } = {}) {
    if (what === 'rejected') return this.rejected(record, problem);
    this.#session.changed({ key: record.key });
    if (what === 'accepted') {
      this.#kick();
      if (tries > 1) this.#session.recovered(record.request_id, 'sent', Date.now() - record.created_at, `sent at the ${tries}. try`);
    } else if (what === 'blocked') {
      this.#session.hub.send({ type: 'blocked', status });
    } else if (what === 'postponed') {
      this.#unsent(record);
      if (record.owner === null) this.#workers?.getRegistration?.().then((home) => home?.sync?.register(SYNC_TAG)).catch(() => {});
    }
    return undefined;
  }

  /** Where nothing is followed, the channel says why nothing is sent. */
  #unsent({ refusal, next_try_at: at }) {
    const to = refusal ? 'busy' : 'offline';
    if (this.channel !== 'idle' && (!this.#saysUnsent || this.channel === to)) return;
    const seconds = Math.max(1, Math.round((at - Date.now()) / 1000));
    const why = refusal ? `${refusal.status}: ${refusal.detail ?? refusal.title}; sent again in ${seconds} s` : 'a request could not be sent';
    this.#session.hub.send({ type: 'channel', to, why });
    this.#saysUnsent = true;
  }

  /** The server refused it, or has it no more. */
  rejected(record, problem) {
    this.#session.changed({ key: record.key });
    this.#kick();
    this.#dispatch('rejected', { task: this.#handles.of(record), record, problem });
  }

  /** The user is told of an outcome here, and nowhere else. */
  announced(record, result, problem) {
    const { request_id: requestId, key, status, settled_seq: seq, attempt, via } = record;
    const task = this.#handles.of(record);
    this.#dispatch('settled', { task, requestId, key, status, seq, attempt, via, result, error: problem, record });
  }

  #heard(message, remote) {
    const { type, requestId } = message;
    if (type === 'event') return this.#handles.find({ requestId })?.hear(message.event);
    if (type === 'sighting') return this.#handles.find({ requestId: message.sighting.request_id })?.sighted(message.sighting);
    if (type === 'settled') return this.#settled(message.key);
    if (type === 'channel') return this.#moved(message.to, message.why);
    if (type === 'blocked') return this.#dispatch('blocked', { status: message.status });
    if (type === 'recovered') return this.#dispatch('recovered', message.detail);
    if (type === 'beat') return this.#moved(message.channel, 'as the tab that follows says');
    if (type === 'looked-at') return remote && this.#lookedAt();
    if (type === 'records') return this.#refresh(message, remote);
    return undefined;
  }

  #fromWorker = async ({ data, ports }) => {
    if (data?.type !== 'bgtasks:push') return;
    const mine = !(await this.#sightings.isAnothers(data.data?.request_id));
    ports[0]?.postMessage(mine && visible()); // the worker's own idea of that may be old
    if (mine) this.#sightings.sight(data.data, { create: true });
  };

  async #refresh({ key, requestId }, remote) {
    this.#dispatch('records', null);
    if (remote) this.#kick(); // another tab has submitted, or follows, something
    const task = this.#handles.find({ key, requestId });
    if (!task) return;
    const record = await this.#session.store.get(task.key);
    if (record) this.#handles.adopt(task, record);
  }

  #moved(to, why) {
    const from = this.channel;
    if (from === to) return;
    this.channel = to;
    this.#saysUnsent = false;
    this.#dispatch('channel', { from, to, why });
  }
}

/** The service workers of this origin; null where there are none, or a page may not have any. */
function workers() {
  try {
    return navigator.serviceWorker ?? null;
  } catch {
    return null;
  }
}
