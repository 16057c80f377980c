// The handles of this tab: one for each task, found by the key of its record or by the id of the task.

import { Task } from '../task.js';

export class Handles {
  #client;
  #tasks = new Map(); // by key
  #keys = new Map(); // by request id

  /** `client`: what each handle asks; see `Task`. */
  constructor(client) {
    this.#client = client;
  }

  /** The handle of this record; made, with these options, where there is none. */
  of(record, options) {
    let task = this.#tasks.get(record.key);
    if (!task) {
      task = new Task(this.#client, record, options);
      this.#tasks.set(record.key, task);
    }
    if (record.request_id) this.#keys.set(record.request_id, record.key);
    return task;
  }

  /** The handle with this key, or of this task; undefined where there is none. */
  find({ key, requestId }) {
    return this.#tasks.get(key ?? this.#keys.get(requestId));
  }

  /** Give a handle its stored record, which may have another key than the handle was made with. */
  adopt(task, record) {
    if (record.key !== task.key) {
      if (this.#tasks.get(task.key) === task) this.#tasks.delete(task.key);
      this.#tasks.set(record.key, task);
    }
    if (record.request_id) this.#keys.set(record.request_id, record.key);
    task.update(record);
  }

  /** Forget the handle. Returns the key of its record. */
  forget(requestIdOrKey) {
    const key = this.#keys.get(requestIdOrKey) ?? requestIdOrKey;
    this.#tasks.delete(key);
    return key;
  }
}
