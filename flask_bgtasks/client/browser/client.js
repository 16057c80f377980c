// What a page imports: the names of the client, from where each is made.

export { BackgroundTasks } from './client/background-tasks.js';
export { restReader } from './client/network/firestore.js';
export { BackgroundTaskCompletionService } from './client/service.js';
export { Refused, Unreachable } from './client/network/http.js';
export { InvalidRequestId, isRequestId } from './client/ids.js';
export { indexedDBStore, memoryStore } from './client/device/store.js';
export { TaskCancelled, TaskError, TaskFailed, TaskGone, TaskRejected } from './client/task.js';
