// What all parts of a client share: whose tasks these are, where they are kept, how the backend is asked, who hears of news.

import { storeFor } from '../device/store.js';
import * as records from '../records.js';
import { Hub } from '../tabs/hub.js';
import { usableLocks } from '../tabs/locks.js';
import { Http } from './http.js';

export class Session {
  constructor({ baseUrl, headers, credentials, owner, store, tabs, fetch }) {
    const shared = tabs === 'share';
    this.owner = owner;
    this.http = new Http({ base: new URL(baseUrl, location.href).href, headers, credentials, ...(fetch && { fetch }) });
    this.store = store ?? storeFor(this.http.base);
    this.name = owner === null ? this.store.name : `${this.store.name}:${owner}`;
    this.hub = new Hub(this.name, { shared });
    this.locks = shared ? usableLocks() : null;
  }

  /** This owner's records, newest first. */
  async records() {
    const mine = (await this.store.all()).filter(({ owner, hidden }) => owner === this.owner && !hidden);
    return mine.sort((a, b) => b.created_at - a.created_at);
  }

  /** Drop the records, of whichever owner, that need not be kept. Returns this owner's. */
  prune(now) {
    return this.store.write(async (rows) => {
      const all = await rows.all();
      for (const key of [...records.prunable(all, now), ...(await rows.unsound())]) await rows.delete(key);
      return all.filter(({ owner }) => owner === this.owner);
    });
  }

  /** Tell every tab that a record has changed: the one with this `key`, or `requestId`. */
  changed(which) {
    this.hub.send({ type: 'records', ...which });
  }

  /** Tell every tab that something was lost, and is back; see Recovered in client.d.ts. */
  recovered(requestId, how, after, detail) {
    this.hub.send({ type: 'recovered', detail: { requestId, how, after, detail } });
  }
}
