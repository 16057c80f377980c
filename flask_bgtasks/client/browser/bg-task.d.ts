/**
 * `<bg-task request-id="…">`: one background task, shown live.
 *
 * ```html
 * <script type="module" src="/tasks/bg-task.js"></script>
 * <bg-task request-id="…"></bg-task>
 * ```
 *
 * Status, bar, percentage, steps with their times, details, the time that is left, a button to cancel or to try again,
 * and what is done about a lost connection. It survives whatever `client.js` survives.
 *
 * | attribute | |
 * | --- | --- |
 * | `request-id` | the task, a UUID; anything else is shown as a task that is not there, and said in the console |
 * | `label` | what it is, for screen readers: "Lesson: The candle". Default "Task" |
 * | `steps` | names of the steps to come, with commas between them; without, steps are named as they begin |
 * | `base-url` | where the blueprint stands; default: where this module came from |
 * | `lang` | of this element or around it: `en` (default), `de`, or another one that was added to `TEXTS` |
 *
 * | slot | |
 * | --- | --- |
 * | `output` | instead of the text that the task has emitted so far |
 * | `result` | shown when the task is completed |
 * | `actions` | at the end, always |
 *
 * | CSS variable `--bg-task-…` | |
 * | --- | --- |
 * | `ink`, `quiet`, `surface`, `line`, `track` | text, lesser text, background, borders, the empty bar |
 * | `accent`, `good`, `good-ink`, `bad`, `bad-wash`, `warn` | at work, done and the tick on it, failed and its ground, no connection |
 * | `radius`, `gap`, `bar-height`, `step-width` | lengths; `step-width` is the least width of a step |
 *
 * Its style sheet is constructed by script, so a Content Security Policy may be as strict as `default-src 'self'`.
 * Without the variables it is light or dark by the page's `color-scheme`. Everything else through `::part(…)`: `task`, `title`,
 * `subtitle`, `percentage`, `button`, `cancel`, `retry`, `bar`, `fill`, `details`, `eta`, `badge`, `steps`, `step`,
 * `step-waiting|running|done|failed|stopped`, `error`, `output`, `result`. The attribute `data-status` is the status that is
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
  /** How it ended. The result of a completed one: `await event.detail.task.result()`. */
  readonly status: 'completed' | 'failed' | 'cancelled' | 'rejected' | 'gone';
  readonly error: string | null;
}

/** What the element says. A function's arguments are numbers, written in the element's language. */
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
  failed: string;
  gone: string;
  rejected: string;
  channel: Record<'sending' | 'resending' | 'waiting' | 'reconnecting' | 'offline' | 'monitor' | 'poll' | 'blocked', string>;
  steps: string;
  cancel: string;
  cancelling: string;
  retry: string;
}

type PartOf<T> = { [K in keyof T]?: T[K] extends (...given: any[]) => any ? T[K] : T[K] extends object ? PartOf<T[K]> : T[K] };

export class BgTask extends HTMLElement {
  /** Default: the page's shared client, {@link clientFor} of `base-url`. */
  client: BackgroundTasks;
  /** The task that is shown. Set it to show one that has no request id yet, as `submit` gives it. */
  task: Task | null;
  /** As the attribute; any names. */
  steps: readonly string[];
  /** Replaces some of the texts of the language. */
  texts: PartOf<Texts>;
  /** The task has changed; bubbles, out of shadow trees too. */
  addEventListener(type: 'bg-task-change', listener: (event: CustomEvent<BgTaskChange>) => void, options?: any): void;
  /**
   * It has come to its end, or had when it was first shown here: once for each end, so once more after a retry. To
   * announce an outcome once in all tabs, listen to the client's `settled`.
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
