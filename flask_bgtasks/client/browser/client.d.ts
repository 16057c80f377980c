/**
 * Background tasks in the browser: submit work that survives the page, the network and the server, and be told once.
 *
 * Served by the blueprint at `/tasks/client.js`, an ES module without a build step and without dependencies.
 * Where a number has no unit in its name it is milliseconds.
 */

/** What the server says of a task. Others may be added: whatever is not terminal counts as running. */
export type Status = 'started' | 'processing' | 'completed' | 'failed' | 'cancelled';

/** By which way something came to be known. */
export type Via = 'stream' | 'poll' | 'push' | 'firestore';

/**
 * Where a record is on this device. `queued`: stored here, not accepted by the server yet. `sending`: on its way.
 * `following`: accepted. `settled`: the outcome is known. `announced`: the user was told. `acked`: the server knows
 * that. `blocked`: the server wants a login. `rejected`: the server refused it, or could not be reached for too long.
 * `gone`: the server has it no more.
 */
export type RecordState =
  | 'queued' | 'sending' | 'following' | 'settled' | 'announced' | 'acked' | 'blocked' | 'rejected' | 'gone';

/**
 * How this browser follows its tasks at the moment. `idle`: there are none to follow. `stream`: live. `poll`: the
 * status is asked for. `monitor`: the backend is out of reach, Firestore is asked. `offline`: neither is reached.
 * `asleep`: no page is looked at. `blocked`: the server wants a login.
 */
export type Channel = 'idle' | 'stream' | 'poll' | 'monitor' | 'offline' | 'asleep' | 'blocked';

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

/** A problem document (RFC 9457), as far as there was one. */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  [member: string]: unknown;
}

/** What is kept on this device of one submission, in IndexedDB. */
export interface TaskRecord {
  /** The Idempotency-Key; of a task that was not submitted here, `id:` and its request id. */
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
   * Of an unsent submission that something on the way has answered (a proxy, a firewall, a captive portal): what it said,
   * in milliseconds since when. It is tried again, for 24 hours.
   */
  readonly doubt: (Problem & { since: number; content_type: string }) | null;
  /** What `options.owner` was. A page of this owner sends it; the service worker sends only what has none. */
  readonly owner: string | null;
  readonly settled_seq: number;
  readonly announced_seq: number;
  readonly acked_seq: number;
  readonly via: Via | null;
  /** Why it was rejected, is gone, or has failed. */
  readonly error: Problem | null;
  /** What `submit` was given as `label`, for lists. */
  readonly label: string | null;
  readonly expires_at: number;
}

/**
 * One thing that happened to a task. `data` is the server's event, as docs/reference/http.md has it.
 *
 * | type | name |
 * | --- | --- |
 * | `state` | `accepted`, `started`, `retrying`, `released`, `cancel_requested`, `reopened` |
 * | `progress` | `progress` |
 * | `step` | `step_started`, `step_finished` |
 * | `output` | `output` |
 * | `snapshot` | `snapshot`: the task as it stands, where the events before it are no longer kept or out of reach |
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

/** A step of the pipeline, as told so far. */
export interface StepView {
  readonly name: string;
  readonly number: number | null;
  readonly state: 'running' | 'done' | 'failed';
  readonly details: string | null;
  readonly seconds: number | null;
  /** Its value came from an earlier attempt. */
  readonly restored: boolean;
}

/** Everything that is known of a task, put together from its events. Values are replaced, never changed. */
export interface TaskView {
  readonly status: Status | 'queued' | 'rejected' | 'gone';
  readonly seq: number;
  readonly attempt: number;
  readonly progress: Progress | null;
  /** Never falls. */
  readonly percentage: number;
  readonly steps: readonly StepView[];
  /** The output of the newest attempt, in one piece where all chunks are text. */
  readonly output: string;
  readonly chunks: readonly unknown[];
  readonly cancelling: boolean;
  /** When it is tried again, where it failed and is to be: what the server said. */
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
 * The server refused the request; or it could not be sent for seven days (`problem.type` is `submission-expired`); or for
 * 24 hours something else than the backend answered (`unrecognized-response`; `status` and `content_type` say what).
 */
export class TaskRejected extends TaskError {}
/** The server does not have the task any more. */
export class TaskGone extends TaskError {}

/** One task, in one tab. Leaving the loop, or the page, never cancels the task. */
export interface Task extends AsyncIterable<TaskEvent>, EventTarget {
  readonly key: string;
  /** Null until the server has accepted it. */
  readonly requestId: string | null;
  /** Fulfilled with the request id; rejected with {@link TaskRejected}. */
  readonly accepted: Promise<string>;
  readonly view: TaskView;
  readonly record: TaskRecord;
  /** The view's answer: parsed JSON, or a Blob of anything else. Waits for the end, over any loss of connection. */
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
  /** Of a completed task. */
  readonly result: any;
  readonly error: Problem | null;
  readonly record: TaskRecord;
}

export interface Recovered {
  /** Null: the whole connection. */
  readonly requestId: string | null;
  /**
   * `reopened`: a page found tasks of an earlier one. `sent`: a submission went out after more than one try.
   * `reconnected`: the backend is reached again. `firestore`: an outcome was read without the backend.
   * `discovered`: the server had a task that this device did not know.
   */
  readonly how: 'reopened' | 'sent' | 'reconnected' | 'firestore' | 'discovered';
  /** For how long there was no connection, where that is known. */
  readonly after: number | null;
  readonly detail: string;
}

export interface EventMap {
  /** The outcome of a task: in one tab, once for each outcome, whatever brought the news. */
  settled: CustomEvent<Settled>;
  /** The server refused a submission, or has a task no more. In one tab, once. */
  rejected: CustomEvent<{ task: Task; record: TaskRecord; problem: Problem }>;
  /** A task's view has changed, in every tab that follows it. */
  progress: CustomEvent<{ task: Task; event: TaskEvent | null }>;
  /** How tasks are followed has changed; in every tab. */
  channel: CustomEvent<{ from: Channel; to: Channel; why: string }>;
  /** Something was lost, and is back. */
  recovered: CustomEvent<Recovered>;
  /** The server answered 401, or sent to its login: call `checkPending()` when there are new credentials. */
  blocked: CustomEvent<{ status: number }>;
  /** The list of records has changed; in every tab. */
  records: CustomEvent<null>;
}

/** Reads a task's mirror. Anything with these two will do: the Firebase SDK's `getDoc`, say. */
export interface MirrorReader {
  /** What the `background_tasks` document says, null while there is none that may be read. Rejects when out of reach. */
  get(requestId: string): Promise<{ status: Status; seq: number | null; attempt: number; error_message?: string | null;
    progress?: Partial<Progress> | null } | null>;
  /** The result of a completed task. */
  result(requestId: string): Promise<any>;
}

/**
 * No answer from the backend, or none in time, or only that of something on the way: what `cancel` and `retry` reject
 * with when there is no network.
 */
export class Unreachable extends Error {}
/** Something else was given where the id of a task was expected: a UUID. */
export class InvalidRequestId extends TypeError {}
/** Whether this is the id of a task: ask before you take one from an address. */
export function isRequestId(value: unknown): value is string;
/** The backend answered with an error. */
export class Refused extends Error {
  readonly status: number;
  readonly problem: Problem;
  /** Milliseconds, where it said so. */
  readonly retryAfter: number | null;
}

/** Where records are kept. */
export interface TaskStore {
  readonly name: string;
}

export interface Options {
  /** Where the blueprint stands. Default `/tasks`. */
  baseUrl?: string | URL;
  /** Sent with every request; asked for anew each time, so that a token may be refreshed. */
  headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);
  /** `fetch`'s own. Default `same-origin`; `include` where the backend has another origin and a cookie login. */
  credentials?: RequestCredentials;
  /** The address for a push, sent as `user_token` with each JSON submission that has none. */
  userToken?: () => string | null | Promise<string | null>;
  /**
   * Whose tasks these are. Pass it where there is a login: several people may use one browser, each sees their own, and
   * what one has left unsent waits for a page of theirs. Call `close()` when they log out.
   */
  owner?: string | null;
  /** Default `indexedDBStore('bgtasks')`; where there is no IndexedDB, `memoryStore()`. */
  store?: TaskStore;
  firestore?: MirrorReader | null;
  /** `share`: one tab follows for all (default). `alone`: each tab for itself. */
  tabs?: 'share' | 'alone';
  /**
   * Ask the server at the start for tasks whose outcome nobody has seen: from another device, or from before this one
   * lost its records. Default: where there is an `owner`; the server lists tasks for those who are logged in.
   */
  discover?: boolean;
  pollInterval?: number;
  monitorInterval?: number;
  /** Silence after which a stream is taken for dead. Default 40,000: two and a half pings. */
  stallAfter?: number;
  /** Hidden for so long, a page stops asking. Default 60,000. */
  sleepAfter?: number;
  fetch?: typeof fetch;
}

export interface SubmitOptions {
  /** The Idempotency-Key. The same key again is the same task. Default a random UUID. */
  key?: string;
  method?: string;
  headers?: Record<string, string>;
  /** For lists: kept in the record, not sent. */
  label?: string;
}

export class BackgroundTasks extends EventTarget {
  constructor(options?: Options);
  /** Fulfilled when the records of this device are read and the client is at work. */
  readonly ready: Promise<void>;
  readonly channel: Channel;
  /**
   * Store a request on this device and send it, now or when there is a network. Fulfilled when it is stored.
   *
   * @param body what is sent: FormData, Blob, URLSearchParams and strings as they are, anything else as JSON.
   */
  submit(url: string | URL, body?: any, options?: SubmitOptions): Promise<Task>;
  /**
   * Follow a task by its id, whoever submitted it; or by its record, which may not have been sent yet. Throws
   * {@link InvalidRequestId} where this is no id, as `cancel`, `retry` and `addPendingTask` reject.
   *
   * @param options.after its loop leaves out the events up to this number; by default the whole history is told.
   */
  follow(requestIdOrRecord: string | TaskRecord, options?: { after?: number; label?: string }): Task;
  /** What is not over yet, oldest first: not accepted, running, or not announced. */
  pending(): Promise<TaskRecord[]>;
  /** Every record of this device, newest first; at most 200, those that are over for a day. */
  records(): Promise<TaskRecord[]>;
  /** Ask now for everything that is pending, and send what waits. What a page does by itself when it wakes. */
  checkPending(why?: string): Promise<void>;
  cancel(requestId: string): Promise<void>;
  retry(requestId: string): Promise<void>;
  /** Forget a task on this device: an unsent one is not sent, a running one is followed no longer, and goes on. */
  remove(requestIdOrKey: string): Promise<void>;
  /** Have the browser's pushes sent here. Asks for the permission: call it from a click. */
  registerPush(options?: {
    /** Default: the key of the server's sink `webpush`. */
    vapidKey?: string;
    /** A service worker of the app's own, which imports `/tasks/service-worker.js`. Default: that one by itself. */
    registration?: ServiceWorkerRegistration;
    /** Of the default service worker. Default `/`. */
    scope?: string;
    app?: string;
    lang?: string;
  }): Promise<{ id: string }>;
  /** Take the data of a push that reached the page by another way, such as the Firebase SDK's `onMessage`. */
  handlePush(data: Record<string, any>): Promise<'new' | 'known' | 'ignored'>;
  /** Stop, and let another tab take over. Tasks go on. */
  close(): void;
  addEventListener<K extends keyof EventMap>(type: K, listener: (event: EventMap[K]) => void, options?: any): void;
  addEventListener(type: string, listener: any, options?: any): void;
}

export function indexedDBStore(name?: string): TaskStore;
export function memoryStore(name?: string): TaskStore;

/** Reads the mirror over Firestore's REST API, with nothing to load. */
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
 * The home-grown name of the same service: `addPendingTask`, `removePendingTask`, `checkPendingTasks`, with one shared
 * instance.
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
