// Records in IndexedDB. Nothing is waited for without end: where the database does not open, does not answer or takes
// nothing, the page goes on in memory, alone, and says so. A page that is left holds nothing: WebKit keeps the lock of a
// transaction with the page that it puts into its back-forward cache, and no other page gets it.
// What is read back is checked: a record whose request id is none, of an older version of this module, is as good as absent.

import { isSound } from '../ids.js';
import { MemoryStore, Store } from './memory-store.js';

const RECORDS = 'records';
const VERSION = 1;
const PATIENCE = 10; // seconds for a database to open, and for a transaction: each takes milliseconds
const PATIENCE_FOR_COPY = 2; // seconds for what is read once more before memory takes over

/** The database gave no answer, or a no. */
class StorageError extends Error {}

/** The page was left in the middle: to be done again when it is back. */
class PageLeft extends Error {}

export class IndexedDBStore extends Store {
  #former;
  #opening = null;
  #fallback = null; // promise of the store that is used instead
  #running = new Set(); // transactions
  #asleep = null; // {promise, resolve} while the page is left
  #known = new Map(); // by key: the records as this page last knew them, for when they cannot be read any more

  /** `device`, or `memory` where nothing can be kept. */
  kept = 'device';

  /** Called once with the reason, when nothing can be kept any more. */
  onlost = () => {};

  /** `former`: the name of a database whose records are copied when this one is made. */
  constructor(name, { former = null } = {}) {
    super();
    this.name = name;
    this.#former = former;
  }

  /** All records. */
  async all() {
    return this.#within('readonly', {}, (rows) => rows.all());
  }

  async get(key) {
    return this.#within('readonly', {}, (rows) => rows.get(key));
  }

  /**
   * Run `work(rows)` in one transaction, and wait until it is committed. It awaits nothing but `rows`, and may be run
   * again where the transaction came to nothing.
   *
   * @param durable wait for the disk, not only for the operating system.
   */
  async write(work, { durable = true } = {}) {
    return this.#within('readwrite', { durability: durable ? 'strict' : 'relaxed' }, work);
  }

  /** The page is left, or frozen: hold nothing, and begin nothing before `wake`. What was not finished waits for it. */
  sleep() {
    this.#asleep ??= withResolve();
    for (const transaction of this.#running) transaction.leave();
    const opening = this.#opening;
    this.#opening = null;
    opening?.then((database) => database.close(), () => {});
  }

  wake() {
    this.#asleep?.resolve();
    this.#asleep = null;
  }

  async #within(mode, options, work) {
    for (let closed = 0; ;) {
      await this.#asleep?.promise;
      if (this.#fallback) return (await this.#fallback).write(work);
      try {
        return await this.#run((await this.#open()).transaction(RECORDS, mode, options), work);
      } catch (error) {
        if (error instanceof PageLeft || this.#asleep) continue;
        if (error.name === 'InvalidStateError' && closed < 3) { // it was closed meanwhile
          closed += 1;
          this.#opening = null;
        } else if (error instanceof StorageError || (error instanceof DOMException && error.name !== 'DataCloneError')) {
          this.#lose(error);
        } else {
          throw error; // of `work`
        }
      }
    }
  }

  async #run(transaction, work, seconds = PATIENCE) {
    const running = new Running(transaction, seconds);
    this.#running.add(running);
    try {
      const result = await running.done(work);
      for (const learn of running.news) learn(this.#known);
      return result;
    } finally {
      this.#running.delete(running);
    }
  }

  /** Go on in memory, with what can still be read. */
  #lose(error) {
    if (this.#fallback) return;
    console.warn(`bgtasks: this browser cannot store anything (${error.message}); tasks are known only until the page is closed`);
    this.kept = 'memory';
    this.#fallback = this.#copy(this.#opening).then((records) => new MemoryStore(this.name, records));
    this.onlost(error.message);
  }

  async #copy(opening) {
    try {
      const database = await inTime(opening, PATIENCE_FOR_COPY);
      return await this.#run(database.transaction(RECORDS, 'readonly'), (rows) => rows.all(), PATIENCE_FOR_COPY);
    } catch {
      return [...this.#known.values()];
    }
  }

  #open() {
    this.#opening ??= this.#made();
    return this.#opening;
  }

  async #made() {
    let database = await opened(this.name, this.#former ? 'refuse' : []);
    if (!database) database = await opened(this.name, await recordsOf(this.#former));
    database.onversionchange = () => { database.close(); this.#opening = null; };
    database.onclose = () => { this.#opening = null; };
    return database;
  }
}

/** One transaction, and how it may end. */
class Running {
  #transaction;
  #end = withResolve();
  #written = false;

  /** What is to be known of it once it is committed: functions of the records by key. */
  news = [];

  constructor(transaction, seconds) {
    this.#transaction = transaction;
    this.#end.promise.catch(() => {});
    const stop = ticking(seconds, () => this.#giveUp(new StorageError(`no answer in ${seconds} seconds`)));
    transaction.oncomplete = () => { stop(); this.#end.resolve(); };
    transaction.onabort = () => { stop(); this.#end.reject(new StorageError(String(transaction.error ?? 'the transaction was aborted'))); };
  }

  async done(work) {
    const worked = (async () => {
      const result = await work(new Rows(this.#transaction.objectStore(RECORDS), this.news));
      this.#written = true;
      return result;
    })();
    worked.catch((error) => this.#giveUp(error));
    await this.#end.promise;
    return worked;
  }

  /** What is written is kept; what is in the middle is undone, at once. */
  leave() {
    if (!this.#written) return this.#giveUp(new PageLeft());
    try { this.#transaction.commit?.(); } catch { /* it does so already */ }
    return undefined;
  }

  #giveUp(error) {
    this.#end.reject(error);
    try { this.#transaction.abort(); } catch { /* it has ended by itself, for the same reason */ }
  }
}

class Rows {
  #rows;
  #news;

  constructor(rows, news) {
    this.#rows = rows;
    this.#news = news;
  }

  async get(key) {
    const found = await asked(() => this.#rows.get(key));
    return found && isSound(found) ? found : undefined;
  }

  /** By request id; undefined where there is none. */
  find(requestId) {
    return asked(() => this.#rows.index('request_id').get(requestId));
  }

  async all() {
    const all = (await asked(() => this.#rows.getAll())).filter(isSound);
    this.#news.push((known) => {
      known.clear();
      for (const record of all) known.set(record.key, record);
    });
    return all;
  }

  /** The keys of records that cannot be used. */
  async unsound() {
    return (await asked(() => this.#rows.getAll())).filter((record) => !isSound(record)).map(({ key }) => key);
  }

  put(record) {
    this.#news.push((known) => known.set(record.key, record));
    return asked(() => this.#rows.put(record));
  }

  delete(key) {
    this.#news.push((known) => known.delete(key));
    return asked(() => this.#rows.delete(key));
  }
}

/** The database; null where there is none yet and `records`, to be put into a new one, are not given but `refuse`. */
function opened(name, records) {
  let late = false;
  let refused = false;
  const opening = new Promise((resolve, reject) => {
    const request = globalThis.indexedDB.open(name, VERSION);
    request.onupgradeneeded = () => {
      refused = records === 'refuse';
      if (refused) return request.transaction.abort();
      const made = request.result.createObjectStore(RECORDS, { keyPath: 'key' });
      made.createIndex('request_id', 'request_id');
      for (const record of records) made.put(record);
      return undefined;
    };
    request.onerror = () => (refused ? resolve(null) : reject(new StorageError(String(request.error))));
    request.onsuccess = () => {
      if (late) request.result.close();
      resolve(request.result);
    };
  });
  return inTime(opening, PATIENCE).catch((error) => {
    late = true;
    throw error instanceof StorageError ? error : new StorageError(String(error)); // `open` itself throws where it is forbidden
  });
}

/** What an older version of this module has left, for whichever app; none where it was never here. */
async function recordsOf(former) {
  const database = await opened(former, 'refuse').catch(() => null);
  if (!database) return [];
  try {
    const all = await new Running(database.transaction(RECORDS, 'readonly'), PATIENCE_FOR_COPY).done((rows) => rows.all());
    return all.map((record) => ({ ...record, taken_over: true }));
  } catch {
    return [];
  } finally {
    database.close();
  }
}

function asked(begin) {
  return new Promise((resolve, reject) => {
    let request;
    try {
      request = begin();
    } catch (error) {
      throw error.name === 'DataCloneError' ? error : new StorageError(String(error)); // what cannot be copied is the app's
    }
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(new StorageError(String(request.error)));
  });
}

async function inTime(promise, seconds) {
  let stop;
  const late = new Promise((_, reject) => {
    stop = ticking(seconds, () => reject(new StorageError(`it did not open in ${seconds} seconds`)));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    stop();
  }
}

/** Call `late` after so many seconds in which the page could run: a device that slept used up one of them. Returns what stops it. */
function ticking(seconds, late) {
  let left = seconds;
  const timer = setInterval(() => {
    left -= 1;
    if (left > 0) return;
    clearInterval(timer);
    late();
  }, 1000);
  return () => clearInterval(timer);
}

function withResolve() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
