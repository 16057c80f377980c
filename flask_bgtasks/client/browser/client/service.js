// The same client under the names of hand-written code that people come from.

import { BackgroundTasks } from './background-tasks.js';

let shared = null;

export class BackgroundTaskCompletionService {
  constructor(client) {
    this.client = client;
  }

  /** Make the shared instance with these options; before `shared` is read. */
  static configure(options) {
    shared?.client.close();
    shared = new BackgroundTaskCompletionService(new BackgroundTasks(options));
    return shared;
  }

  static get shared() {
    return shared ?? BackgroundTaskCompletionService.configure();
  }

  /** Rejects with InvalidRequestId where this is no id. */
  async addPendingTask(requestId) {
    return this.client.follow(requestId);
  }

  removePendingTask(requestId) {
    return this.client.remove(requestId);
  }

  checkPendingTasks(why) {
    return this.client.checkPending(why);
  }
}
