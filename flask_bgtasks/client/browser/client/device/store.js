// Where records are kept: IndexedDB, whose write transactions are one at a time over all tabs and workers, or memory.
// One way to change anything: `write(work)`, where `work` reads and puts within one transaction.
// What is read back is checked: a record whose request id is none, of an older version of this module, is as good as absent.

import { isSound } from '../ids.js';

const RECORDS = 'records';
const VERSION = 1;

/** Records of this origin, under this name. Falls back to memory where the browser keeps nothing (private windows). */
export function indexedDBStore(name = 'bgtasks') {
  return new IndexedDBStore(name);
}

/** Records of this page only. */
export function memoryStore(name = 'bgtasks') {
  return new MemoryStore(name);
}

class Store {
  /** Change the record with this key, if `change(record)` gives another one: that, null where it does not. */
  change(key, change) {
    return this.#change((rows) => rows.get(key), change);
  }

  /** The same, by request id. */
  changeTask(requestId, change) {
    return this.#change((rows) => rows.find(requestId), change);
  }

  #change(look, change) {
    return this.write(async (rows) => {
      const record = await look(rows);
      const next = record && change(record);
      if (next) await rows.put(next);
      return next ?? null;
    });
  }
}

class IndexedDBStore extends Store {
  #opening = null;
  #fallback = null;

  constructor(name) {
    super();
    this.name = name;
  }

  /** All records. */
  async all() {
    return this.#within('readonly', {}, (rows) => rows.all());
  }

  async get(key) {
    return this.#within('readonly', {}, (rows) => rows.get(key));
  }

  /**
   * Run `work(rows)` in one transaction, and wait until it is committed. It awaits nothing but `rows`.
   *
   * @param durable wait for the disk, not only for the operating system.
   */
  async write(work, { durable = true } = {}) {
    return this.#within('readwrite', { durability: durable ? 'strict' : 'relaxed' }, work);
  }

  /** Lets the page into the back-forward cache. It is opened again when it is needed. */
  close() {
    const opening = this.#opening;
    this.#opening = null;
    opening?.then((database) => database.close(), () => {});
  }

  async #within(mode, options, work) {
    if (this.#fallback) return this.#fallback.write(work);
    for (let tries = 0; ; tries += 1) {
      let transaction;
      try {
        transaction = (await this.#open()).transaction(RECORDS, mode, options);
      } catch (error) {
        this.#opening = null;
        if (error.name === 'InvalidStateError' && tries < 3) continue; // it was closed meanwhile
        console.warn(`bgtasks: this browser cannot store anything (${error.message}); tasks are known only until the page is closed`);
        this.#fallback = new MemoryStore(this.name);
        return this.#fallback.write(work);
      }
      return run(transaction, work);
    }
  }

  #open() {
    this.#opening ??= new Promise((resolve, reject) => {
      const opening = indexedDB.open(this.name, VERSION);
      opening.onupgradeneeded = () => {
        opening.result.createObjectStore(RECORDS, { keyPath: 'key' }).createIndex('request_id', 'request_id');
      };
      opening.onerror = () => reject(opening.error);
      opening.onsuccess = () => {
        const database = opening.result;
        database.onversionchange = () => { database.close(); this.#opening = null; };
        database.onclose = () => { this.#opening = null; };
        resolve(database);
      };
    });
    return this.#opening;
  }
}

async function run(transaction, work) {
  const committed = new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error('the transaction was aborted'));
  });
  let result;
  try {
    result = await work(new Rows(transaction.objectStore(RECORDS)));
  } catch (error) {
    committed.catch(() => {});
    try { transaction.abort(); } catch { /* it has ended by itself, for the same reason */ }
    throw error;
  }
  await committed;
  return result;
}

class Rows {
  #rows;

  constructor(rows) {
    this.#rows = rows;
  }

  async get(key) {
    const found = await asked(this.#rows.get(key));
    return found && isSound(found) ? found : undefined;
  }

  /** By request id; undefined where there is none. */
  find(requestId) {
    return asked(this.#rows.index('request_id').get(requestId));
  }

  async all() {
    return (await asked(this.#rows.getAll())).filter(isSound);
  }

  /** The keys of records that cannot be used. */
  async unsound() {
    return (await asked(this.#rows.getAll())).filter((record) => !isSound(record)).map(({ key }) => key);
  }

  put(record) {
    return asked(this.#rows.put(record));
  }

  delete(key) {
    return asked(this.#rows.delete(key));
  }
}

function asked(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

class MemoryStore extends Store {
  #records = new Map();
  #turn = Promise.resolve(); // one transaction after the other

  constructor(name) {
    super();
    this.name = name;
  }

  async all() {
    return [...this.#records.values()];
  }

  async get(key) {
    return this.#records.get(key);
  }

  write(work) {
    const mine = this.#turn.then(async () => {
      const changed = new Map(this.#records);
      const result = await work({
        get: async (key) => changed.get(key),
        find: async (requestId) => [...changed.values()].find((record) => record.request_id === requestId),
        all: async () => [...changed.values()],
        unsound: async () => [], // nothing was read back
        put: async (record) => { changed.set(record.key, record); },
        delete: async (key) => { changed.delete(key); },
      });
      this.#records = changed;
      return result;
    });
    this.#turn = mine.catch(() => {});
    return mine;
  }

  close() {} // it has nothing open
}
