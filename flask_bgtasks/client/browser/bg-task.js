// <bg-task request-id="…">: shows one background task, live, and lets its user cancel it or try again. It needs nothing
// beside the module of the client; its attributes, events, slots, parts and CSS variables are listed in bg-task.d.ts.

import { Panel } from './client/element/panel.js';
import { TEXTS, textsFor } from './client/element/texts.js';
import { describe, isOver } from './client/element/view-model.js';
import { withoutSlashes } from './client/network/http.js';
import { InvalidRequestId } from './client/ids.js';
import { BackgroundTasks } from './client.js';

export { TEXTS };

// The blueprint's address, where it serves this module; a bundle has another name, and says nothing of where that is.
const HERE = /\/bg-task\.js$/.test(new URL(import.meta.url).pathname) ? new URL('.', import.meta.url).href : '/tasks';
const Element = globalThis.HTMLElement ?? class {}; // rendering on a server imports this, and makes none
const PROPERTIES = ['client', 'task', 'steps', 'texts'];
const NO_VIEW = { status: 'started', seq: 0, attempt: 0, progress: null, percentage: 0, steps: [], output: '',
  chunks: [], cancelling: false, retrying: null, error: null };
const NO_TASK = { ...NO_VIEW, status: 'gone' };

const clients = new Map();

/** The client of this page for a blueprint, shared with every element: by default the one that served this module. */
export function clientFor(baseUrl = HERE) {
  const base = withoutSlashes(new URL(baseUrl, document.baseURI).href);
  if (!clients.has(base)) clients.set(base, new BackgroundTasks({ baseUrl: base }));
  return clients.get(base);
}

export class BgTask extends Element {
  static observedAttributes = ['request-id', 'base-url', 'label', 'lang', 'steps'];

  #panel;
  #client = null;
  #misnamed = false; // by something that is no id
  #given = null; // a task that was handed over, and may have no id yet
  #task = null; // the one that is shown
  #steps = null;
  #texts = {};
  #listening = null;
  #painting = 0;
  #told = null; // the end that was told of, so that each is told once

  constructor() {
    super();
    this.#panel = new Panel(this.attachShadow({ mode: 'open' }), {
      cancel: () => this.#task?.cancel().catch(() => {}), // what became of it shows in the view
      retry: () => this.#task?.retry().catch(() => {}),
    });
  }

  connectedCallback() {
    for (const name of PROPERTIES.filter((one) => Object.hasOwn(this, one))) { // set before this module was loaded
      const value = this[name];
      delete this[name];
      this[name] = value;
    }
    this.#follow();
  }

  disconnectedCallback() {
    this.#leave();
  }

  attributeChangedCallback(name, before, now) {
    if (before === now) return;
    if (name === 'request-id' && this.#given && this.#given.requestId !== now) this.#given = null;
    if (name === 'request-id' || name === 'base-url') this.#follow();
    else this.#paintSoon();
  }

  get client() {
    return this.#client ?? this.#given?.client ?? clientFor(this.getAttribute('base-url') ?? undefined);
  }

  set client(client) {
    this.#client = client;
    this.#follow();
  }

  get task() {
    return this.#task;
  }

  set task(task) {
    this.#given = task;
    this.#follow();
  }

  get steps() {
    return this.#steps ?? namesIn(this.getAttribute('steps') ?? '');
  }

  set steps(names) {
    this.#steps = typeof names === 'string' ? namesIn(names) : names && [...names]; // React and Vue set attributes as properties
    this.#paintSoon();
  }

  get texts() {
    return this.#texts;
  }

  set texts(texts) {
    this.#texts = texts ?? {};
    this.#paintSoon();
  }

  focus(options) {
    this.#panel.focus(options);
  }

  // -- following -------------------------------------------------------------------------------------------------

  #follow() {
    if (!this.isConnected) return;
    const task = this.#given ?? this.#named();
    if (task === this.#task && this.#listening) return;
    this.#leave();
    this.#task = task;
    if (!task) return this.#paint();
    this.#told = null;
    const { signal } = (this.#listening = new AbortController());
    task.addEventListener('change', (event) => this.#changed(event.detail), { signal });
    this.client.addEventListener('channel', () => this.#paintSoon(), { signal });
    for (const type of ['online', 'offline']) addEventListener(type, () => this.#paintSoon(), { signal });
    this.#paint();
    this.#tellOfEnd();
  }

  /** The task that the attribute names. Whoever wrote what is no id finds that in the console; nothing is asked for it. */
  #named() {
    const requestId = this.getAttribute('request-id');
    this.#misnamed = false;
    if (!requestId) return null;
    try {
      return this.client.follow(requestId);
    } catch (error) {
      if (!(error instanceof InvalidRequestId)) throw error;
      console.error(`<bg-task request-id>: ${error.message}`);
      this.#misnamed = true;
      return null;
    }
  }

  #leave() {
    this.#listening?.abort();
    this.#listening = null;
    clearTimeout(this.#painting);
    this.#painting = 0;
  }

  #changed(event) {
    this.#tell('bg-task-change', { event });
    this.#paintSoon();
  }

  // A history that is told at once changes the view a hundred times: it is painted once, and its end is told once.
  #paintSoon() {
    this.#painting ||= setTimeout(() => {
      this.#painting = 0;
      if (!this.isConnected) return;
      this.#paint();
      this.#tellOfEnd();
    }, 16);
  }

  #paint() {
    const lang = this.closest('[lang]')?.lang || 'en';
    const texts = textsFor(lang, this.#texts);
    const view = this.#task?.view ?? (this.#misnamed ? NO_TASK : NO_VIEW);
    // Without a task no client is asked for: asking makes one, and a second one of the page might lead.
    const { channel, storage: kept = 'device' } = this.#task ? this.client : { channel: 'idle' };
    const { tries = 0, refusal = null, next_try_at: at } = this.#task?.record ?? {};
    const again = refusal && { ...refusal, seconds: (at - Date.now()) / 1000 };
    const said = describe(view, { channel, online: navigator.onLine, tries, refusal: again, kept, names: this.steps, texts, lang });
    this.#panel.show(said, { texts, lang, label: this.getAttribute('label') });
    this.#panel.showContent({ output: view.output, completed: view.status === 'completed' });
  }

  #tellOfEnd() {
    const view = this.#task?.view;
    if (!view || !isOver(view.status)) {
      this.#told = null;
      return;
    }
    const end = `${view.status} ${view.seq}`;
    if (this.#told === end) return;
    this.#told = end;
    this.#tell('bg-task-settled', { status: view.status, error: view.error });
  }

  #tell(type, more) {
    const task = this.#task;
    const detail = { task, requestId: task.requestId, view: task.view, ...more };
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

function namesIn(text) {
  return text.split(',').map((name) => name.trim()).filter(Boolean);
}

if (globalThis.customElements && !customElements.get('bg-task')) customElements.define('bg-task', BgTask);
