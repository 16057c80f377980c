// Where records are kept: IndexedDB, whose write transactions are one at a time over all tabs and workers, or memory.
// One way to change anything: `write(work)`, where `work` reads and puts within one transaction.

import { IndexedDBStore } from './indexed-db.js';
import { MemoryStore } from './memory-store.js';

const FORMER = 'bgtasks'; // one for all apps of an origin, in older versions of this module

/** Records of this origin, under this name. Falls back to memory where the browser keeps nothing, or not in time. */
export function indexedDBStore(name = FORMER) {
  return new IndexedDBStore(name);
}

/** Records of this page only. */
export function memoryStore(name = FORMER) {
  return new MemoryStore(name);
}

/** Where a client of the blueprint at this address keeps its records, if its app does not say. */
export function storeFor(base) {
  return new IndexedDBStore(storeName(base), { former: FORMER });
}

/** Two apps on one origin have two addresses, and nothing to do with each other's tasks. */
export function storeName(base) {
  const { origin, pathname, href } = new URL(base, globalThis.location.href);
  return `bgtasks:${origin === globalThis.location.origin ? pathname : href}`;
}
