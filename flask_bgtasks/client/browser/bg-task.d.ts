/**
 * `<bg-task request-id="…">`: one background task, shown live.
 *
 * ```html
 * <script type="module" src="/tasks/bg-task.js"></script>
 * <bg-task request-id="…"></bg-task>
 * ```
 *
 * Shows the status, a progress bar, the percentage, the steps with their times, details, the remaining time, a button
 * to cancel or retry, and the state of the connection. It survives whatever `client.js` survives.
 *
 * | attribute | |
 * | --- | --- |
 * | `request-id` | the task, a UUID; anything else is shown as a missing task, and logged to the console |
 * | `label` | a name for screen readers: "Lesson: The candle". Default "Task" |
 * | `steps` | the names of the expected steps, separated by commas; by default, steps appear as they begin |
 * | `base-url` | the URL of the blueprint; default: where this module came from |
 * | `lang` | the language, also from an enclosing element: `en` (default), `de`, or one that was added to `TEXTS` |
 *
 * | slot | |
 * | --- | --- |
 * | `output` | replaces the text that the task has emitted so far |
 * | `result` | shown when the task is completed |
 * | `actions` | at the end, always |
 *
 * | CSS variable `--bg-task-…` | |
 * | --- | --- |
 * | `ink`, `quiet`, `surface`, `line`, `track` | text, secondary text, background, borders, the empty bar |
 * | `accent`, `good`, `good-ink`, `bad`, `bad-wash`, `warn` | running, done and its tick, failed and its background, no connection |
 * | `radius`, `gap`, `bar-height`, `step-width` | lengths; `step-width` is the minimum width of a step |
 *
 * Its style sheet is constructed by script, so a Content Security Policy can be as strict as `default-src 'self'`.
 * By default it is light or dark like the page's `color-scheme`. Style everything else with `::part(…)`: `task`, `title`,
 * `subtitle`, `percentage`, `button`, `cancel`, `retry`, `bar`, `fill`, `details`, `eta`, `badge`, `steps`, `step`,
 * `step-waiting|running|done|failed|stopped`, `error`, `output`, `result`. The attribute `data-status` holds the status that is
 * shown.
 */

import type { BackgroundTasks, Task, TaskEvent, TaskView } from './client.js';

export interface BgTaskChange {
  readonly task: Task;
  /** Null until the server has accepted it. */
  readonly requestId: string | null;
  readonly view: TaskView;
  readonly event: TaskEvent | null;
}

export interface BgTaskSettled {
  readonly task: Task;
  readonly requestId: string | null;
  readonly view: TaskView;
  /** How it ended. For the result of a completed task: `await event.detail.task.result()`. */
  readonly status: 'completed' | 'failed' | 'cancelled' | 'rejected' | 'gone';
  readonly error: string | null;
}

/** The element's texts. A function's arguments are numbers, formatted in the element's language. */
export interface Texts {
  name: string;
  status: Record<'queued' | 'started' | 'processing' | 'cancelling' | 'retrying' | 'completed' | 'failed' | 'cancelled' |
    'rejected' | 'gone', string>;
  step: Record<'waiting' | 'running' | 'done' | 'failed' | 'stopped' | 'kept', string> & {
    unnamed: (number: string) => string;
  };
  at: (number: string, total: string) => string;
  atNamed: (number: string, total: string, name: string) => string;
  stoppedAt: (name: string) => string;
  took: (steps: string, duration: string) => string;
  left: (duration: string) => string;
  resumed: (attempt: string) => string;
  again: (duration: string) => string;
  stored: string;
  /** Where nothing can be stored. */
  unstored: string;
  failed: string;
  gone: string;
  rejected: string;
  channel: Record<'sending' | 'resending' | 'waiting' | 'reconnecting' | 'offline' | 'monitor' | 'busy' | 'poll' |
    'blocked', string> & {
    /** For what the server does not take now: its own sentence, and when it is sent again. */
    refused: (why: string, duration: string) => string;
  };
  steps: string;
  cancel: string;
  cancelling: string;
  retry: string;
}

type PartOf<T> = { [K in keyof T]?: T[K] extends (...given: any[]) => any ? T[K] : T[K] extends object ? PartOf<T[K]> : T[K] };

export class BgTask extends HTMLElement {
  /** Default: that of the task that was set; else the page's shared client, {@link clientFor} of `base-url`. */
  client: BackgroundTasks;
  /** The task that is shown. Set it to show a task of `submit` that has no request id yet. */
  task: Task | null;
  get steps(): readonly string[];
  /** Like the attribute; in an array the names may contain commas. */
  set steps(names: readonly string[] | string | null);
  /** Overrides some of the language's texts. */
  texts: PartOf<Texts>;
  /** The task has changed. The event bubbles, also out of shadow trees. */
  addEventListener(type: 'bg-task-change', listener: (event: CustomEvent<BgTaskChange>) => void, options?: any): void;
  /**
   * The task has ended, or had already ended when it was first shown: once for each end, so again after a retry. To
   * announce an outcome only once across all tabs, listen to the client's `settled`.
   */
  addEventListener(type: 'bg-task-settled', listener: (event: CustomEvent<BgTaskSettled>) => void, options?: any): void;
  addEventListener(type: string, listener: any, options?: any): void;
}

/** The client of this page for a blueprint, shared with every element. Default: the one that served this module. */
export function clientFor(baseUrl?: string | URL): BackgroundTasks;

/** The texts by language. Add one: `TEXTS.fr = {…}`. */
export const TEXTS: { en: Texts } & Record<string, PartOf<Texts>>;

declare global {
  interface HTMLElementTagNameMap {
    'bg-task': BgTask;
  }
}
