// The client: submits work that survives the page, the network and the server, follows it, and tells of each outcome once.
// It ties the parts together, passes on what the app asks, and wakes and sleeps with the page.

import { Maintenance } from './device/maintenance.js';
import { Outbox } from './device/outbox.js';
import { Outcomes } from './device/outcomes.js';
import { register, sightingOfPush } from './device/push.js';
import { Sightings } from './device/sightings.js';
import { storeName } from './device/store.js';
import { Follower } from './network/follow.js';
import { history } from './network/history.js';
import { Session } from './network/session.js';
import { Operations } from './operations.js';
import * as records from './records.js';
import { Handles } from './tabs/handles.js';
import { visible, watchPage } from './tabs/lifecycle.js';
import { usableLocks } from './tabs/locks.js';
import { Messages } from './tabs/messages.js';

const STALL = 17_000; // milliseconds without a ping: the server sends one every 15 s
const RESULT_STALL = 40_000; // without a byte of a result, which may have to be read from afar first

export class BackgroundTasks extends EventTarget {
  #session;
  #handles = new Handles(this);
  #outbox;
  #outcomes;
  #maintenance;
  #sightings;
  #follower;
  #operations;
  #messages;
  #stopWatching;
  #closed = false;

  constructor({
    baseUrl = '/tasks', headers, credentials, userToken, owner = null, store, firestore = null, tabs = 'share',
    discover = owner !== null, pollInterval = null, monitorInterval = 30_000, stallAfter, sleepAfter = 60_000, fetch,
  } = {}) {
    super();
    const session = new Session({ baseUrl, headers, credentials, owner, store, tabs, fetch });
    this.#session = session;
    session.store.onlost = (why) => this.#dispatch('storage', { kept: 'memory', why });
    this.#sightings = new Sightings({ ...session });
    this.#messages = new Messages(session, {
      handles: this.#handles, sightings: this.#sightings, dispatch: (type, detail) => this.#dispatch(type, detail),
      kick: () => this.#follower.kick('ids'), settled: (key) => this.#outcomes.settled(key),
      lookedAt: () => this.#follower.leading && !visible() && this.#follower.yield(),
    });
    this.#outbox = new Outbox({ ...session, locks: usableLocks(), told: (...news) => this.#messages.posted(...news) });
    this.#outcomes = new Outcomes({
      ...session, mirror: firestore, locks: usableLocks(), stall: stallAfter ?? RESULT_STALL,
      tell: (...outcome) => this.#messages.announced(...outcome), later: () => this.#maintenance.later(),
      told: (key) => { session.changed({ key }); this.#maintenance.now(); },
    });
    this.#maintenance = new Maintenance({ outbox: this.#outbox, outcomes: this.#outcomes, mine: () => session.records() });
    this.#follower = new Follower(session, {
      sightings: this.#sightings, mirror: firestore, channel: () => this.channel,
      times: { poll: pollInterval, monitor: monitorInterval, stall: stallAfter ?? STALL },
      gone: (record) => this.#messages.rejected(record, record.error),
      back: () => this.#maintenance.now(), slept: () => this.#wake('slept'),
    });
    this.#operations = new Operations(session, {
      handles: this.#handles, sightings: this.#sightings, userToken,
      send: () => this.#maintenance.now(), kick: () => this.#follower.kick('ids'),
    });
    this.#stopWatching = watchPage({
      wake: (why) => this.#wake(why), hide: () => this.#follower.yield(), // to a tab that is looked at
      sleep: (why) => this.#sleep(why),
      offline: () => this.#follower.kick('offline'), sleepAfter,
    });
    this.ready = this.#start({ discover });
  }

  get channel() {
    return this.#messages.channel;
  }

  get storage() {
    return this.#session.store.kept;
  }

  // -- what an app calls --------------------------------------------------------------------------------------------

  submit(url, body, options) {
    return this.#operations.submit(url, body, options);
  }

  follow(requestIdOrRecord, options) {
    return this.#operations.follow(requestIdOrRecord, options);
  }

  async pending() {
    return (await this.records()).filter(({ state }) => records.PENDING.has(state)).reverse();
  }

  records() {
    return this.#session.records();
  }

  async checkPending(why = 'asked') {
    await this.#outbox.unblock();
    await Promise.all([this.#maintenance.round({ all: true }), this.#follower.check(why)]);
  }

  async cancel(requestId) {
    await this.#operations.cancel(requestId);
    await this.checkPending('cancelled');
  }

  async retry(requestId) {
    await this.#operations.retry(requestId);
    await this.checkPending('retried');
  }

  remove(requestIdOrKey) {
    return this.#operations.remove(requestIdOrKey);
  }

  registerPush(options) {
    const { http, store: { name } } = this.#session;
    const worker = `${http.base}/service-worker.js${name === storeName(http.base) ? '' : `?store=${encodeURIComponent(name)}`}`;
    return register(http, { ...options, worker });
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
    this.#messages.close();
    this.#maintenance.close();
    this.#outcomes.close();
    this.#sightings.save();
    this.#follower.rest();
    this.#session.hub.close();
  }

  // -- what a task's handle asks ------------------------------------------------------------------------------------

  /** The events after this number, as far as the backend has them and can be reached. */
  history(requestId, after) {
    return history(this.#session.http, requestId, after);
  }

  /** The view's own answer, when it can be had. */
  resultOf({ request_id: requestId }) {
    return this.#outcomes.eventualResult(requestId);
  }

  /** A handle's view has changed. */
  viewed(task, event) {
    this.#dispatch('progress', { task, event });
  }

  // -- the page -----------------------------------------------------------------------------------------------------

  async #start({ discover }) {
    const now = Date.now();
    const mine = await this.#session.prune(now);
    if (visible()) this.#follower.stand();
    for (const record of mine.filter(({ state }) => records.PENDING.has(state))) {
      this.#handles.of(record);
      const detail = { requestId: record.request_id, how: 'reopened', after: now - record.created_at, detail: `found on this device, ${record.state}` };
      setTimeout(() => this.#dispatch('recovered', detail)); // after whoever makes the client has had time to listen
    }
    if (mine.length) this.checkPending('started');
    if (discover) await this.#follower.discover();
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #wake(why) {
    this.#session.store.wake();
    this.#session.hub.open();
    if (visible()) {
      this.#session.hub.send({ type: 'looked-at' });
      this.#follower.stand();
    }
    this.#outcomes.wake();
    return this.checkPending(why);
  }

  #sleep(why) {
    const { leading } = this.#follower;
    this.#follower.rest();
    if (leading) this.#session.hub.send({ type: 'channel', to: 'asleep', why });
    if (why === 'left' || why === 'frozen') {
      this.#session.hub.close(); // an open channel or database keeps a page out of the back-forward cache
      this.#session.store.sleep();
    }
  }
}
