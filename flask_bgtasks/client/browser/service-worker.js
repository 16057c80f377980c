// The service worker: shows what a push tells, once, and opens the task; sends what waits when the network is back.
// Register it as a module, or import it into a worker of your own: `import '/tasks/service-worker.js'`.

import { Http, withoutSlashes } from './client/network/http.js';
import { isRequestId } from './client/ids.js';
import { Outbox, SYNC_TAG } from './client/device/outbox.js';
import { sightingOfPush } from './client/device/push.js';
import * as records from './client/records.js';
import { indexedDBStore, storeFor } from './client/device/store.js';
import { usableLocks } from './client/tabs/locks.js';

const BASE = new URL('.', import.meta.url).href; // the blueprint's address: this module is served by it
const NAMED = new URL(import.meta.url).searchParams.get('store') ?? new URL(self.location.href).searchParams.get('store'); // …?store=…
const PATIENCE = 1000; // for a page to say that it tells its user
const store = NAMED ? indexedDBStore(NAMED) : storeFor(withoutSlashes(BASE));

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('push', (event) => {
  let message;
  try {
    message = event.data?.json();
  } catch {
    return; // not ours
  }
  const sighting = sightingOfPush(message);
  if (sighting) event.waitUntil(told(sighting));
});

self.addEventListener('notificationclick', (event) => {
  const { request_id: requestId, link } = event.notification.data ?? {};
  if (!isRequestId(requestId)) return; // another's
  event.notification.close();
  event.waitUntil(open(requestId, link));
});

self.addEventListener('sync', (event) => {
  if (event.tag === SYNC_TAG) event.waitUntil(flush());
});

async function told(sighting) {
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  // A page that is looked at, and answers, tells its user itself.
  const taken = await Promise.all(pages.filter(({ visibilityState }) => visibilityState === 'visible').map((page) => ask(page, sighting)));
  if (taken.includes(true)) return;
  const silent = records.TERMINAL.has(sighting.status) ? await settle(sighting) : true;
  for (const page of pages) page.postMessage({ type: 'bgtasks:push', data: sighting });
  // A browser wants something shown for every push. What the user has seen in a page is not rung for.
  await self.registration.showNotification(sighting.title ?? 'Ready', {
    body: sighting.body, tag: sighting.request_id, silent, data: { request_id: sighting.request_id, link: sighting.link },
  });
}

/** Whether the page is looked at, and runs a client that tells of it. */
function ask(page, data) {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    const timer = setTimeout(resolve, PATIENCE, false);
    port1.onmessage = ({ data: tells }) => { clearTimeout(timer); resolve(tells); };
    page.postMessage({ type: 'bgtasks:push', data }, [port2]);
  });
}

/** The notification tells of the outcome. Whether the user has seen it before. */
function settle(sighting) {
  const now = Date.now();
  return store.write(async (rows) => {
    const known = (await rows.find(sighting.request_id)) ?? records.known(sighting.request_id, { now });
    const next = records.settled(known, sighting, now) ?? known;
    if (next.state === 'settled') await rows.put(records.announced(next, next.settled_seq, now));
    return next === known && known.announced_visibly && known.announced_seq >= (sighting.seq ?? 0);
  });
}

/**
 * Show the task: in the page that shows it already, else in one of its own. No other page of the user's is taken away,
 * and no other site's is opened: a link that leads away is for another app of the user's.
 */
async function open(requestId, link) {
  const own = new URL(`/?task=${encodeURIComponent(requestId)}`, self.location.origin);
  const asked = URL.canParse(link ?? '', own) ? new URL(link ?? own, own) : own;
  const address = (asked.origin === own.origin ? asked : own).href;
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  const there = pages.find(({ url }) => url === address);
  return there ? there.focus() : self.clients.openWindow(address);
}

/**
 * Send what belongs to nobody. What belongs to an owner waits for a page of that owner: a worker sends the cookie of
 * whoever is logged in by now, and does not know who that is. So do submissions whose headers only the page knows.
 */
async function flush() {
  const http = new Http({ base: BASE });
  const outbox = new Outbox({ store, http, owner: null, name: store.name, locks: usableLocks(), told: tell, sends: ({ needs_page: needed }) => !needed });
  if ((await outbox.flush({ all: true })) !== null) throw new Error('not everything could be sent'); // tried again later
}

function tell(type, { key }) {
  new BroadcastChannel(store.name).postMessage({ type: 'records', key, what: type });
}
