// The client: submits work that survives the page, the network and the server, follows it, and tells of each outcome once.
// It ties the parts together: records on this device, the outbox, one leading tab on its ladder, and a task's handles.

import { Maintenance } from './device/maintenance.js';
import { history } from './network/history.js';
import { Http, Unreachable } from './network/http.js';
import { Hub } from './tabs/hub.js';
import { asRequestId, isRequestId, pathOf } from './ids.js';
import { Ladder } from './network/ladder.js';
import { Leader } from './tabs/leader.js';
import { visible, watchPage } from './tabs/lifecycle.js';
import { Outbox, SYNC_TAG, frozen, isPlain, newKey } from './device/outbox.js';
import { Outcomes, isPassing } from './device/outcomes.js';
import { register, sightingOfPush } from './network/push.js';
import * as records from './records.js';
import { Sightings } from './device/sightings.js';
import { statuses } from './network/statuses.js';
import { indexedDBStore, memoryStore } from './device/store.js';
import { Task } from './task.js';
import { coalesced } from './tabs/coalesce.js';

const AGAIN = 1000; // between tries to read a result, doubled each time
const AGAIN_SLOWEST = 30_000;

export class BackgroundTasks extends EventTarget {
  #http;
  #store;
  #hub;
  #leader;
  #ladder;
  #outbox;
  #outcomes;
  #maintenance;
  #sightings;
  #owner;
  #name;
  #userToken;
  #stopWatching;
  #tasks = new Map(); // handles of this tab, by key
  #keys = new Map(); // and their keys, by request id
  #channel = 'idle';
  #look = coalesced(() => this.#lookAtAll());
  #wakers = []; // what waits for the page to wake
  #discovers;
  #closed = false;

  constructor({
    baseUrl = '/tasks', headers, credentials, userToken, owner = null, store, firestore = null, tabs = 'share',
    discover = owner !== null, pollInterval = null, monitorInterval = 30_000, stallAfter = 40_000, sleepAfter = 60_000, fetch,
  } = {}) {
    super();
    this.#store = store ?? (globalThis.indexedDB ? indexedDBStore() : memoryStore());
    this.#owner = owner;
    this.#name = owner === null ? this.#store.name : `${this.#store.name}:${owner}`;
    this.#userToken = userToken;
    this.#discovers = discover;
    this.#http = new Http({ base: new URL(baseUrl, location.href).href, headers, credentials, ...(fetch && { fetch }) });
    const locks = tabs === 'share' ? navigator.locks : null;
    this.#hub = new Hub(this.#name, { shared: tabs === 'share' });
    this.#hub.on((message, origin) => this.#heard(message, origin));
    this.#outbox = new Outbox({
      store: this.#store, http: this.#http, owner, name: this.#name, told: (...news) => this.#posted(...news),
    });
    this.#outcomes = new Outcomes({
      http: this.#http, store: this.#store, mirror: firestore, name: this.#name, locks: navigator.locks, stall: stallAfter,
      tell: (...outcome) => this.#announced(...outcome), later: () => this.#maintenance.later(),
      told: (key) => { this.#hub.send({ type: 'records', key }); this.#maintenance.now(); },
    });
    this.#maintenance = new Maintenance({ outbox: this.#outbox, outcomes: this.#outcomes, mine: () => this.records() });
    this.#sightings = new Sightings({ store: this.#store, hub: this.#hub, owner });
    this.#ladder = new Ladder({
      http: this.#http, mirror: firestore, core: this.#core(), times: { poll: pollInterval, monitor: monitorInterval, stall: stallAfter },
    });
    this.#leader = new Leader({
      name: `${this.#name}:leader`, hub: this.#hub, locks,
      lead: (signal) => this.#ladder.run(signal), state: () => ({ channel: this.#channel }),
    });
    this.#stopWatching = watchPage({
      wake: (why) => this.#wake(why), hide: () => this.#hide(), sleep: (why) => this.#sleep(why),
      offline: () => this.#ladder.kick('offline'), sleepAfter,
    });
    navigator.serviceWorker?.addEventListener('message', this.#fromWorker);
    navigator.serviceWorker?.startMessages();
    this.ready = this.#start();
  }

  get channel() {
    return this.#channel;
  }

  // -- what an app calls --------------------------------------------------------------------------------------------

  async submit(url, body, { key = newKey(), method, headers, label = null } = {}) {
    const request = await frozen(url, await this.#withToken(body), { method, headers });
    const record = records.submission(key, { ...request, needs_page: this.#http.needsPage }, { now: Date.now(), owner: this.#owner, label });
    const kept = await this.#store.write(async (rows) => {
      const earlier = await rows.get(key);
      if (earlier) return earlier;
      await rows.put(record);
      return record;
    });
    if (kept.body_hash !== record.body_hash) throw new Error(`submit: the key ${key} stands for another request; leave it out, or take a new one`);
    navigator.storage?.persist?.().catch(() => {}); // asked once something is worth keeping; Chromium decides in silence
    const task = this.#handle(kept);
    this.#hub.send({ type: 'records', key });
    this.#maintenance.now();
    return task;
  }

  follow(requestIdOrRecord, { after = 0, label = null } = {}) {
    const given = typeof requestIdOrRecord === 'object' ? requestIdOrRecord : null;
    const named = given ? given.request_id : requestIdOrRecord;
    const requestId = given && !named ? null : asRequestId(named, 'follow');
    const task = this.#tasks.get(given?.key ?? this.#keys.get(requestId));
    if (task) {
      task.after = after;
      return task;
    }
    if (!requestId) return this.#handle(given, { after });
    const made = this.#handle(given ?? records.known(requestId, { now: Date.now(), owner: this.#owner, label }), { after });
    this.#take(made);
    return made;
  }

  async pending() {
    return (await this.records()).filter(({ state }) => records.PENDING.has(state)).reverse();
  }

  async records() {
    const mine = (await this.#store.all()).filter(({ owner, hidden }) => owner === this.#owner && !hidden);
    return mine.sort((a, b) => b.created_at - a.created_at);
  }

  async checkPending(why = 'asked') {
    await this.#unblock();
    await Promise.all([this.#maintenance.round({ all: true }), this.#look().then(() => this.#ladder.kick(why))]);
  }

  async cancel(requestId) {
    await this.#act(requestId, 'cancel');
    await this.checkPending('cancelled');
  }

  async retry(requestId) {
    const { request_id: id } = await this.#act(requestId, 'retry');
    await this.#store.changeTask(id, (record) => records.reopened(record, Date.now()));
    this.#hub.send({ type: 'records', requestId: id });
    this.#ladder.kick('ids');
    await this.checkPending('retried');
  }

  async remove(requestIdOrKey) {
    await this.#store.write(async (rows) => {
      const record = (await rows.get(requestIdOrKey)) ?? (await rows.find(requestIdOrKey));
      if (!record) return;
      if (record.request_id || record.state === 'sending') await rows.put(records.dropped(record, Date.now()));
      else await rows.delete(record.key);
    });
    const key = this.#keys.get(requestIdOrKey) ?? requestIdOrKey;
    this.#tasks.delete(key);
    this.#hub.send({ type: 'records', key });
    this.#ladder.kick('ids');
  }

  registerPush(options) {
    const worker = `${this.#http.base}/service-worker.js${this.#store.name === 'bgtasks' ? '' : `?store=${encodeURIComponent(this.#store.name)}`}`;
    return register(this.#http, { ...options, worker });
  }

  async handlePush(data) {
    const sighting = sightingOfPush(data);
    if (!sighting) return 'ignored';
    return (await this.#sightings.sight(sighting, { create: true })) ? 'new' : 'known';
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopWatching();
    navigator.serviceWorker?.removeEventListener('message', this.#fromWorker);
    this.#maintenance.close();
    this.#sightings.save();
    this.#leader.rest();
    this.#hub.close();
  }

  // -- what a task's handle asks ------------------------------------------------------------------------------------

  /** The events after this number, as far as the backend has them and can be reached. */
  history(requestId, after) {
    return history(this.#http, requestId, after);
  }

  /** The view's own answer, when it can be had. */
  async resultOf({ request_id: requestId }) {
    for (let tries = 0; ; tries += 1) {
      try {
        return await this.#outcomes.result(requestId);
      } catch (error) {
        if (this.#closed || !isPassing(error)) throw error;
        await Promise.race([pause(Math.min(AGAIN_SLOWEST, AGAIN * 2 ** tries)), this.#woken()]);
      }
    }
  }

  /** A handle's view has changed. */
  viewed(task, event) {
    this.#dispatch('progress', { task, event });
  }

  // -- what comes in ------------------------------------------------------------------------------------------------

  #core() {
    return {
      following: () => this.#sightings.following(),
      event: (requestId, event) => this.#sightings.streamed(requestId, event),
      sighting: (sighting) => this.#sightings.sight(sighting),
      missing: (ids) => this.#missing(ids),
      channel: (to, why) => this.#hub.send({ type: 'channel', to, why }),
      back: (after) => {
        this.#recovered(null, 'reconnected', after, 'the backend is reached again');
        this.#maintenance.now();
      },
      blocked: (status) => this.#hub.send({ type: 'blocked', status }),
      slept: () => this.#wake('slept'),
      visible,
    };
  }

  async #missing(ids) {
    for (const record of await this.#sightings.missing(ids)) this.#posted('rejected', record, { problem: record.error });
  }

  /** News from the outbox. */
  #posted(what, record, { tries = 0, status, problem } = {}) {
    this.#hub.send({ type: 'records', key: record.key });
    if (what === 'accepted' || what === 'rejected') this.#ladder.kick('ids');
    if (what === 'accepted') {
      if (tries > 1) this.#recovered(record.request_id, 'sent', Date.now() - record.created_at, `sent at the ${tries}. try`);
    } else if (what === 'rejected') {
      this.#dispatch('rejected', { task: this.#handle(record), record, problem });
    } else if (what === 'blocked') {
      this.#hub.send({ type: 'blocked', status });
    } else if (what === 'postponed') {
      if (this.#channel === 'idle') this.#hub.send({ type: 'channel', to: 'offline', why: 'a request could not be sent' });
      if (record.owner === null) navigator.serviceWorker?.getRegistration?.().then((home) => home?.sync?.register(SYNC_TAG)).catch(() => {});
    }
  }

  /** The user is told of an outcome here, and nowhere else. */
  #announced(record, result, problem) {
    const { request_id: requestId, key, status, settled_seq: seq, attempt, via } = record;
    const task = this.#handle(record);
    this.#dispatch('settled', { task, requestId, key, status, seq, attempt, via, result, error: problem, record });
  }

  #heard(message, { remote }) {
    if (message.type === 'event') return this.#taskOf(message.requestId)?.hear(message.event);
    if (message.type === 'sighting') return this.#taskOf(message.sighting.request_id)?.sighted(message.sighting);
    if (message.type === 'settled') return this.#outcomes.settled(message.key);
    if (message.type === 'channel') return this.#moved(message.to, message.why);
    if (message.type === 'blocked') return this.#dispatch('blocked', { status: message.status });
    if (message.type === 'recovered') return this.#dispatch('recovered', message.detail);
    if (message.type === 'beat') return this.#moved(message.channel, 'as the tab that follows says');
    if (message.type === 'looked-at') return remote && this.#leader.leading && !visible() && this.#leader.yield();
    if (message.type === 'records') return this.#refresh(message, remote);
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
    if (remote) this.#ladder.kick('ids'); // another tab has submitted, or follows, something
    const task = this.#tasks.get(key ?? this.#keys.get(requestId));
    if (!task) return;
    const record = await this.#store.get(task.key);
    if (record) this.#adopt(task, record);
  }

  #moved(to, why) {
    const from = this.#channel;
    if (from === to) return;
    this.#channel = to;
    this.#dispatch('channel', { from, to, why });
  }

  #recovered(requestId, how, after, detail) {
    this.#hub.send({ type: 'recovered', detail: { requestId, how, after, detail } });
  }

  async #act(requestId, what) {
    const id = asRequestId(requestId, what);
    const answer = await this.#http.json(pathOf(id, what), { method: 'POST' });
    if (answer?.request_id !== id) throw new Unreachable(`${what}: this answer is not the backend's`);
    return answer;
  }

  // -- work that is left --------------------------------------------------------------------------------------------

  /** There may be new credentials. */
  #unblock() {
    return this.#store.write(async (rows) => {
      for (const record of await rows.all()) {
        const next = record.owner === this.#owner && records.unblocked(record, Date.now());
        if (next) await rows.put(next);
      }
    });
  }

  async #lookAtAll() {
    const ids = (await this.#sightings.following()).map(({ request_id }) => request_id);
    try {
      for await (const { tasks, missing } of statuses(this.#http, ids)) {
        for (const brief of tasks) await this.#sightings.sight({ ...brief, via: 'poll' });
        if (missing.length) await this.#missing(missing);
      }
    } catch { /* the ladder finds the same, and knows what to do */ }
  }

  // -- the page -----------------------------------------------------------------------------------------------------

  async #start() {
    const now = Date.now();
    const mine = await this.#store.write(async (rows) => {
      const all = await rows.all();
      for (const key of [...records.prunable(all, now), ...(await rows.unsound())]) await rows.delete(key);
      return all.filter(({ owner }) => owner === this.#owner);
    });
    if (visible()) this.#leader.stand();
    for (const record of mine) {
      if (!records.PENDING.has(record.state)) continue;
      this.#handle(record);
      this.#dispatchSoon('recovered', { requestId: record.request_id, how: 'reopened', after: now - record.created_at, detail: `found on this device, ${record.state}` });
    }
    if (mine.length) this.checkPending('started');
    if (this.#discovers) await this.#discover();
  }

  /** Tasks of this owner that nobody has seen the end of: submitted elsewhere, or here before the records were lost. */
  async #discover() {
    let page;
    try {
      page = await this.#http.json('?seen=false');
    } catch {
      return; // nobody is logged in, or there is no network: the next start asks again
    }
    for (const brief of Array.isArray(page?.tasks) ? page.tasks : []) {
      if (!isRequestId(brief?.request_id)) continue;
      const { made } = await this.#sightings.insert(records.known(brief.request_id, { now: Date.parse(brief.created_at) || Date.now(), owner: this.#owner, label: null }));
      if (!made) continue;
      this.#recovered(brief.request_id, 'discovered', null, 'the server has it, this device did not know of it');
      await this.#sightings.sight({ ...brief, via: 'poll' });
    }
    this.#ladder.kick('ids');
  }

  #wake(why) {
    this.#hub.open();
    if (visible()) {
      this.#hub.send({ type: 'looked-at' });
      this.#leader.stand();
    }
    for (const wake of this.#wakers.splice(0)) wake();
    return this.checkPending(why);
  }

  #woken() {
    return new Promise((resolve) => this.#wakers.push(resolve));
  }

  #hide() {
    this.#sightings.save();
    this.#leader.yield(); // to a tab that is looked at
  }

  #sleep(why) {
    const led = this.#leader.leading;
    this.#leader.rest();
    if (led) this.#hub.send({ type: 'channel', to: 'asleep', why });
    if (why === 'left' || why === 'frozen') {
      this.#hub.close(); // an open channel or database keeps a page out of the back-forward cache
      this.#store.close();
    }
  }

  // -- records and handles ------------------------------------------------------------------------------------------

  /** Find the record of a handle that was made for an id, or keep the one that it was made with. */
  async #take(task) {
    const { stored, made } = await this.#sightings.insert(task.record);
    this.#adopt(task, stored);
    if (made) {
      this.#hub.send({ type: 'records', key: stored.key });
      this.#ladder.kick('ids');
    } else if (stored.seq) {
      task.sighted({ ...stored, seq: Math.max(stored.seq, stored.settled_seq), via: stored.via ?? 'poll' });
    }
  }

  #handle(record, options) {
    let task = this.#tasks.get(record.key);
    if (!task) {
      task = new Task(this, record, options);
      this.#tasks.set(record.key, task);
    }
    if (record.request_id) this.#keys.set(record.request_id, record.key);
    return task;
  }

  /** The stored record of a handle, which may have another key than the handle was made with. */
  #adopt(task, record) {
    if (record.key !== task.key) {
      if (this.#tasks.get(task.key) === task) this.#tasks.delete(task.key);
      this.#tasks.set(record.key, task);
    }
    if (record.request_id) this.#keys.set(record.request_id, record.key);
    task.update(record);
  }

  #taskOf(requestId) {
    return this.#tasks.get(this.#keys.get(requestId));
  }

  async #withToken(body) {
    if (!this.#userToken || !isPlain(body) || Array.isArray(body) || !body || 'user_token' in body) return body;
    const token = await Promise.race([this.#userToken(), pause(3000)]).catch(() => null); // no network, no new token
    return token ? { ...body, user_token: token } : body;
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #dispatchSoon(type, detail) {
    setTimeout(() => this.#dispatch(type, detail)); // after whoever makes the client has had time to listen
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => { setTimeout(resolve, milliseconds); });
}
