/**
 * Background tasks in the browser: submit work that survives the page, the network and the server, and get each
 * outcome once.
 *
 * Served by the blueprint at `/tasks/client.js`, an ES module without a build step and without dependencies.
 * Where a number has no unit in its name it is milliseconds.
 */

/** A task's status on the server. Others may be added: any that is not terminal counts as running. */
export type Status = 'started' | 'processing' | 'completed' | 'failed' | 'cancelled';

/** How something was learnt. */
export type Via = 'stream' | 'poll' | 'push' | 'firestore';

/**
 * The state of a record on this device. `queued`: stored here, not yet accepted by the server. `sending`: being sent.
 * `following`: accepted. `settled`: the outcome is known. `announced`: the user was told. `acked`: the server knows
 * that. `blocked`: the server requires a login. `rejected`: the server refused it, or was unreachable for too long.
 * `gone`: the server no longer has it.
 */
export type RecordState =
  | 'queued' | 'sending' | 'following' | 'settled' | 'announced' | 'acked' | 'blocked' | 'rejected' | 'gone';

/**
 * How this browser follows its tasks at the moment. `idle`: there are none to follow. `stream`: live. `poll`: by
 * polling. `monitor`: the backend is unreachable, Firestore is polled. `offline`: both are unreachable. `busy`: the
 * server answers, but cannot do anything now (429, 5xx): `why` has its status and its sentence. `asleep`: no page is
 * visible. `blocked`: the server requires a login.
 */
export type Channel = 'idle' | 'stream' | 'poll' | 'monitor' | 'offline' | 'busy' | 'asleep' | 'blocked';

/** The `request_progress` document. */
export interface Progress {
  request_id: string;
  step: string | null;
  step_number: number | null;
  total_steps: number | null;
  details: string | null;
  progress_percentage: number | null;
  status: Status;
  last_updated: string;
  eta_seconds: number | null;
  attempt: number;
}

/** A problem document (RFC 9457), if there was one. */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  [member: string]: unknown;
}

/** The record of one submission on this device, in IndexedDB. */
export interface TaskRecord {
  /** The Idempotency-Key; for a task that was not submitted here, `id:` and its request id. */
  readonly key: string;
  readonly url: string | null;
  readonly request_id: string | null;
  readonly state: RecordState;
  readonly status: Status | null;
  readonly seq: number;
  readonly attempt: number;
  readonly progress: Progress | null;
  /** Milliseconds since the epoch, by this device's clock. */
  readonly created_at: number;
  readonly tries: number;
  /**
   * For an unsent submission that was answered by something other than the backend (a proxy, a firewall, a captive
   * portal): what it answered, and since when, in milliseconds. The submission is retried for 24 hours.
   */
  readonly doubt: (Problem & { since: number; content_type: string }) | null;
  /**
   * For an unsent submission that a server answered which cannot take it now (429, 5xx): what it said, and since when, in
   * milliseconds. It is sent again at `next_try_at`; a 500 for an hour at most.
   */
  readonly refusal: (Problem & { since: number }) | null;
  readonly next_try_at: number;
  /** The value of `options.owner`. Only a page of this owner sends it; the service worker sends records without one. */
  readonly owner: string | null;
  readonly settled_seq: number;
  readonly announced_seq: number;
  readonly acked_seq: number;
  readonly via: Via | null;
  /** Why it was rejected, is gone, or failed. */
  readonly error: Problem | null;
  /** The `label` given to `submit`, for lists. */
  readonly label: string | null;
  readonly expires_at: number;
}

/**
 * One event of a task. `data` is the server's event document, described in docs/reference/http.md.
 *
 * | type | name |
 * | --- | --- |
 * | `state` | `accepted`, `started`, `retrying`, `released`, `cancel_requested`, `reopened` |
 * | `progress` | `progress` |
 * | `step` | `step_started`, `step_finished` |
 * | `output` | `output` |
 * | `snapshot` | `snapshot`: the current state, if earlier events are no longer kept, or unreachable |
 * | `terminal` | `completed`, `failed`, `cancelled`: the last one |
 */
export interface TaskEvent {
  readonly type: 'state' | 'progress' | 'step' | 'output' | 'snapshot' | 'terminal';
  readonly name: string;
  readonly seq: number;
  readonly attempt: number;
  readonly via: Via;
  readonly data: Record<string, any>;
}

/** A step of the pipeline, as reported so far. */
export interface StepView {
  readonly name: string;
  readonly number: number | null;
  readonly state: 'running' | 'done' | 'failed';
  readonly details: string | null;
  readonly seconds: number | null;
  /** Its value came from an earlier attempt. */
  readonly restored: boolean;
}

/** All that is known of a task, built from its events. Values are replaced, never mutated. */
export interface TaskView {
  readonly status: Status | 'queued' | 'rejected' | 'gone';
  readonly seq: number;
  readonly attempt: number;
  readonly progress: Progress | null;
  /** Never falls. */
  readonly percentage: number;
  readonly steps: readonly StepView[];
  /** The output of the newest attempt, in one piece if all chunks are text. */
  readonly output: string;
  readonly chunks: readonly unknown[];
  readonly cancelling: boolean;
  /** The server's `retrying` event, while a failed task waits to be retried. */
  readonly retrying: Record<string, any> | null;
  readonly error: string | null;
}

export class TaskError extends Error {
  readonly task: Task;
  readonly problem: Problem;
}
/** The task ended with an error. */
export class TaskFailed extends TaskError {}
/** The task was cancelled. */
export class TaskCancelled extends TaskError {}
/**
 * The server refused the request, or answered 500 to it for an hour, or it could not be sent for seven days
 * (`problem.type` is `submission-expired`), or something other than the backend answered for 24 hours
 * (`unrecognized-response`; see `status` and `content_type`).
 */
export class TaskRejected extends TaskError {}
/** The server no longer has the task. */
export class TaskGone extends TaskError {}

/** One task, in one tab. Leaving the loop, or the page, never cancels the task. */
export interface Task extends AsyncIterable<TaskEvent>, EventTarget {
  /** The client that follows it. */
  readonly client: BackgroundTasks;
  readonly key: string;
  /** Null until the server has accepted it. */
  readonly requestId: string | null;
  /** Fulfilled with the request id; rejected with {@link TaskRejected}. */
  readonly accepted: Promise<string>;
  readonly view: TaskView;
  readonly record: TaskRecord;
  /** The view's answer: parsed JSON, or else a Blob. Waits for the end, whatever happens to the connection. */
  result(options?: { signal?: AbortSignal }): Promise<any>;
  cancel(): Promise<void>;
  retry(): Promise<void>;
  /** `change`: the view has changed. */
  addEventListener(type: 'change', listener: (event: CustomEvent<TaskEvent | null>) => void, options?: any): void;
  addEventListener(type: string, listener: any, options?: any): void;
}

export interface Settled {
  readonly task: Task;
  readonly requestId: string;
  readonly key: string;
  readonly status: Status;
  readonly seq: number;
  readonly attempt: number;
  readonly via: Via;
  /** The result of a completed task. */
  readonly result: any;
  readonly error: Problem | null;
  readonly record: TaskRecord;
}

export interface Recovered {
  /** Null: the whole connection. */
  readonly requestId: string | null;
  /**
   * `reopened`: a page found tasks of an earlier page. `sent`: a submission was sent after more than one try.
   * `reconnected`: the backend is reachable again. `firestore`: an outcome was read without the backend.
   * `discovered`: the server had a task that this device did not know.
   */
  readonly how: 'reopened' | 'sent' | 'reconnected' | 'firestore' | 'discovered';
  /** How long there was no connection, if known. */
  readonly after: number | null;
  readonly detail: string;
}

export interface EventMap {
  /** The outcome of a task: once for each outcome, in one tab only, however it was learnt. */
  settled: CustomEvent<Settled>;
  /** The server refused a submission, or no longer has a task. Once, in one tab only. */
  rejected: CustomEvent<{ task: Task; record: TaskRecord; problem: Problem }>;
  /** A task's view has changed, in every tab that follows it. */
  progress: CustomEvent<{ task: Task; event: TaskEvent | null }>;
  /** The way in which tasks are followed has changed; in every tab. */
  channel: CustomEvent<{ from: Channel; to: Channel; why: string }>;
  /** Something was lost, and is back. */
  recovered: CustomEvent<Recovered>;
  /** The server answered 401, or redirected to its login: call `checkPending()` once there are new credentials. */
  blocked: CustomEvent<{ status: number }>;
  /**
   * Nothing can be stored on this device (cookies are blocked, the disk is full, the database does not answer): tasks are
   * known to this page only, until it is closed.
   */
  storage: CustomEvent<{ kept: 'memory'; why: string }>;
  /** The list of records has changed; in every tab. */
  records: CustomEvent<null>;
}

/** Reads a task's mirror: any object with these two methods, for example on the Firebase SDK's `getDoc`. */
export interface MirrorReader {
  /** Reads the `background_tasks` document; null if there is none that may be read. Rejects if it is unreachable. */
  get(requestId: string): Promise<{ status: Status; seq: number | null; attempt: number; error_message?: string | null;
    progress?: Partial<Progress> | null } | null>;
  /** The result of a completed task. */
  result(requestId: string): Promise<any>;
}

/**
 * The backend did not answer, or not in time, or only a proxy answered: `cancel` and `retry` reject with this when there
 * is no network.
 */
export class Unreachable extends Error {}
/** The argument is not the id of a task, a UUID. */
export class InvalidRequestId extends TypeError {}
/** Whether this is a valid task id: check before you use one from a URL. */
export function isRequestId(value: unknown): value is string;
/** The backend answered with an error. */
export class Refused extends Error {
  readonly status: number;
  readonly problem: Problem;
  /** The `Retry-After` of the answer, in milliseconds, if there was one. */
  readonly retryAfter: number | null;
}

/** Where records are kept. */
export interface TaskStore {
  readonly name: string;
}

export interface Options {
  /** The URL of the blueprint. Default `/tasks`. */
  baseUrl?: string | URL;
  /** Sent with every request; a function is called each time, so that a token can be refreshed. */
  headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);
  /** As in `fetch`. Default `same-origin`; use `include` if the backend has another origin and a cookie login. */
  credentials?: RequestCredentials;
  /** The address for a push, sent as `user_token` with each JSON submission that has none. */
  userToken?: () => string | null | Promise<string | null>;
  /**
   * The owner of the tasks. Pass it if there is a login: several people may use one browser, each sees their own tasks,
   * and unsent submissions wait for a page of the same owner. Call `close()` when they log out.
   */
  owner?: string | null;
  /**
   * Default: an IndexedDB of the blueprint's address (`bgtasks:/tasks`), so that two apps on one origin do not meet. Where
   * nothing can be stored, memory: see {@link BackgroundTasks.storage}.
   */
  store?: TaskStore;
  firestore?: MirrorReader | null;
  /** `share`: one tab follows the tasks for all tabs (default). `alone`: each tab follows its own. */
  tabs?: 'share' | 'alone';
  /**
   * Ask the server at the start for tasks whose outcome has not been seen: from another device, or from before this one
   * lost its records. Default: true if there is an `owner`, since the server lists tasks only for logged-in users.
   */
  discover?: boolean;
  pollInterval?: number;
  monitorInterval?: number;
  /** Silence after which a stream counts as dead. Default 17,000: the server sends a ping every 15 s. */
  stallAfter?: number;
  /** A page that has been hidden for this long stops asking. Default 60,000. */
  sleepAfter?: number;
  fetch?: typeof fetch;
}

export interface SubmitOptions {
  /** The Idempotency-Key. The same key gives the same task. Default: a random UUID. */
  key?: string;
  method?: string;
  headers?: Record<string, string>;
  /** For lists: kept in the record, not sent. */
  label?: string;
}

export class BackgroundTasks extends EventTarget {
  constructor(options?: Options);
  /** Fulfilled when the records of this device are read and the client is running. */
  readonly ready: Promise<void>;
  readonly channel: Channel;
  /** Where tasks are kept: `memory` if this browser stores nothing, or stopped doing so. */
  readonly storage: 'device' | 'memory';
  /**
   * Store a request on this device and send it, now or when there is a network. Fulfilled when it is stored, or known to
   * this page if nothing can be stored.
   *
   * @param body FormData, Blob, URLSearchParams and strings are sent unchanged, anything else as JSON.
   */
  submit(url: string | URL, body?: any, options?: SubmitOptions): Promise<Task>;
  /**
   * Follow a task by its id, whoever submitted it, or by its record, which may be unsent. Throws
   * {@link InvalidRequestId} if the id is invalid; `cancel`, `retry` and `addPendingTask` reject with it.
   *
   * @param options.after leaves out the events up to this number; by default the loop yields the whole history.
   */
  follow(requestIdOrRecord: string | TaskRecord, options?: { after?: number; label?: string }): Task;
  /** The pending records, oldest first: not accepted, running, or not announced. */
  pending(): Promise<TaskRecord[]>;
  /** All records of this device, newest first; at most 200. Finished ones are kept for a day. */
  records(): Promise<TaskRecord[]>;
  /** Ask for all pending tasks now, and send unsent ones. A page does this by itself when it wakes. */
  checkPending(why?: string): Promise<void>;
  cancel(requestId: string): Promise<void>;
  retry(requestId: string): Promise<void>;
  /** Forget a task on this device: an unsent one is not sent; a running one goes on, but is no longer followed. */
  remove(requestIdOrKey: string): Promise<void>;
  /** Register this browser for pushes. Asks for permission: call it from a click. */
  registerPush(options?: {
    /** Default: the key of the server's sink `webpush`. */
    vapidKey?: string;
    /** The app's own service worker, which imports `/tasks/service-worker.js`. Default: that file itself. */
    registration?: ServiceWorkerRegistration;
    /** The scope of the default service worker. Default `/`. */
    scope?: string;
    app?: string;
    lang?: string;
  }): Promise<{ id: string }>;
  /** Handle the data of a push that reached the page another way, such as by the Firebase SDK's `onMessage`. */
  handlePush(data: Record<string, any>): Promise<'new' | 'known' | 'ignored'>;
  /** Stop, and let another tab take over. Tasks go on. */
  close(): void;
  addEventListener<K extends keyof EventMap>(type: K, listener: (event: EventMap[K]) => void, options?: any): void;
  addEventListener(type: string, listener: any, options?: any): void;
}

export function indexedDBStore(name?: string): TaskStore;
export function memoryStore(name?: string): TaskStore;

/** Reads the mirror over Firestore's REST API, without an SDK. */
export function restReader(options: {
  projectId: string;
  /** The user's Firebase ID token. */
  idToken?: (options: { refresh: boolean }) => string | null | Promise<string | null>;
  database?: string;
  tasks?: string;
  progress?: string;
  /** Default `https://firestore.googleapis.com`; the emulator's in tests. */
  host?: string;
  timeout?: number;
  fetch?: typeof fetch;
}): MirrorReader;

/**
 * The same service by the names of hand-written solutions: `addPendingTask`, `removePendingTask`, `checkPendingTasks`,
 * with one shared instance.
 */
export class BackgroundTaskCompletionService {
  constructor(client: BackgroundTasks);
  static configure(options?: Options): BackgroundTaskCompletionService;
  static readonly shared: BackgroundTaskCompletionService;
  readonly client: BackgroundTasks;
  addPendingTask(requestId: string): Promise<Task>;
  removePendingTask(requestId: string): Promise<void>;
  checkPendingTasks(why?: string): Promise<void>;
}
