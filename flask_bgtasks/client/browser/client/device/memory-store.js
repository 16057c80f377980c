// Records in memory: of this page, until it is closed. And what every store can do on top of `write`.

export class Store {
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

export class MemoryStore extends Store {
  kept = 'memory';
  #records;
  #turn = Promise.resolve(); // one transaction after the other

  constructor(name, records = []) {
    super();
    this.name = name;
    this.#records = new Map(records.map((record) => [record.key, record]));
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

  sleep() {} // it has nothing open

  wake() {}
}
