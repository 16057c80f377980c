// The inside of <bg-task>: builds its elements once and writes into them what `describe` says. It changes only what
// is different, so that a screen reader hears of a change once and the focus stays where it is.

import { sheet } from './style.js';
import { percent } from './view-model.js';

export class Panel {
  #root;
  #parts = {};

  /** @param actions `{cancel, retry}`: what the buttons do. */
  constructor(root, actions) {
    this.#root = root;
    root.adoptedStyleSheets = [sheet()];
    root.append(this.#build(actions));
  }

  /** Move the focus to the title: where a page wants the reader to be when a task appears. */
  focus(options) {
    this.#parts.title.focus(options);
  }

  /** @param said what `describe` gave. */
  show(said, { texts, lang, label }) {
    const { task, title, subtitle, percentage, bar, fill, details, eta, badge, error, spoken } = this.#parts;
    set(this.#root.host, 'data-status', said.status);
    set(this.#root.host, 'data-over', said.over ? '' : null);
    set(task, 'aria-label', label || texts.name);
    write(title, said.title);
    write(subtitle, said.subtitle);
    const measure = said.unsent ? '' : percent(said.percentage, lang);
    write(percentage, measure);
    fill.style.inlineSize = `${said.percentage}%`;
    set(bar, 'aria-label', said.title);
    set(bar, 'aria-valuenow', said.unsent ? null : Math.floor(said.percentage));
    set(bar, 'aria-valuetext', [measure, said.spoken].filter(Boolean).join(', '));
    write(details, said.details);
    write(eta, said.eta);
    write(badge, said.badge);
    badge.hidden = !said.badge;
    write(error, said.error);
    error.hidden = !said.error;
    this.#showSteps(said.steps, texts);
    this.#showButtons(said, texts);
    write(spoken, said.spoken);
  }

  /** Show the text so far, and of a completed task what the page has for its result. */
  showContent({ output, completed }) {
    const parts = this.#parts;
    write(parts.outputSlot, output);
    parts.output.hidden = !output && !parts.outputSlot.assignedNodes().length;
    parts.result.hidden = !completed || !parts.resultSlot.assignedNodes().length;
  }

  #showSteps(steps, texts) {
    const list = this.#parts.steps;
    list.hidden = !steps.length;
    set(list, 'aria-label', texts.steps);
    while (list.children.length > steps.length) list.lastElementChild.remove();
    steps.forEach(({ name, state, time }, index) => {
      const item = list.children[index] ?? list.appendChild(stepItem());
      const [nameBox, stateBox, timeBox] = item.lastElementChild.children;
      set(item, 'data-state', state);
      set(item, 'part', `step step-${state}`);
      set(item, 'aria-current', state === 'running' ? 'step' : null);
      write(nameBox, name);
      write(stateBox, `(${texts.step[state]})`);
      write(timeBox, time);
    });
  }

  #showButtons({ canCancel, canRetry, status }, texts) {
    const { cancel, retry, title } = this.#parts;
    const had = this.#root.activeElement;
    cancel.hidden = !canCancel;
    retry.hidden = !canRetry;
    // Not `disabled`, which would drop the focus of whoever has just pressed it.
    set(cancel, 'aria-disabled', status === 'cancelling' ? 'true' : null);
    write(cancel, status === 'cancelling' ? texts.cancelling : texts.cancel);
    write(retry, texts.retry);
    if (had?.hidden) (retry.hidden ? title : retry).focus({ preventScroll: true });
  }

  #build({ cancel, retry }) {
    const part = (name, tag, properties = {}, ...children) => {
      this.#parts[name] = make(tag, { id: name, ...properties }, ...children);
      this.#parts[name].setAttribute('part', name);
      return this.#parts[name];
    };
    const button = (name, press) => {
      const made = part(name, 'button', { type: 'button' });
      made.setAttribute('part', `button ${name}`);
      made.addEventListener('click', () => made.ariaDisabled === 'true' || press());
      return made;
    };
    const slotted = (name) => {
      this.#parts[`${name}Slot`] = make('slot', { name });
      return part(name, 'div', {}, this.#parts[`${name}Slot`]);
    };
    const bar = part('bar', 'div', { role: 'progressbar', ariaValueMin: '0', ariaValueMax: '100' }, part('fill', 'div'));
    return part('task', 'div', { role: 'group' },
      make('div', { id: 'head' },
        make('div', { id: 'names' }, part('title', 'p', { tabIndex: -1 }), part('subtitle', 'p')),
        button('cancel', cancel), button('retry', retry)),
      make('div', { id: 'measure' }, bar, part('percentage', 'span', { ariaHidden: 'true' })),
      make('div', { id: 'now' }, part('details', 'span'), part('eta', 'span'), part('badge', 'span')),
      part('steps', 'ol', { role: 'list' }),
      part('error', 'p'),
      slotted('output'), slotted('result'), make('slot', { name: 'actions' }),
      make('p', { className: 'spoken', role: 'status' }, (this.#parts.spoken = make('span'))));
  }
}

function stepItem() {
  const words = ['name', 'spoken', 'time'].map((className) => make('span', { className }));
  const mark = make('span', { className: 'mark', ariaHidden: 'true' });
  return make('li', {}, mark, make('span', { className: 'words' }, ...words));
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function set(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}
