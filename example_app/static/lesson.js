// One lesson: the task's progress, the story while it is written, and the lesson when it is there. <bg-task> shows the
// first; this follows its events and shows the rest.

import { $, make, write } from './dom.js';
import { lessonParts } from './parts.js';

const HINT = 'It appears here while it is written.';

export class Lesson {
  #bg;
  #element = $('task');
  #shown = null; // the task whose lesson is shown
  #painting = 0;

  constructor(bg) {
    this.#bg = bg;
    Object.assign(this.#element, { client: bg, texts: { name: 'Lesson', status: { completed: 'Lesson ready' } } });
    this.#element.addEventListener('bg-task-change', () => this.#storySoon());
    this.#element.addEventListener('bg-task-settled', ({ detail }) => this.#ended(detail));
  }

  /** The task of the lesson that is open. */
  get task() {
    return this.#element.task;
  }

  /** Show the lesson of a task; of its id, if that is all that is known. */
  open(taskOrId) {
    const task = typeof taskOrId === 'string' ? this.#bg.follow(taskOrId) : taskOrId;
    if (task === this.task) return;
    this.#clear();
    this.#element.task = task;
    if (task.requestId) this.#element.setAttribute('request-id', task.requestId);
    this.#element.setAttribute('label', `Lesson: ${task.record.label ?? 'without a title yet'}`);
    this.#story();
    this.#element.focus({ preventScroll: true });
    scrollTo({ top: 0 });
  }

  close() {
    this.#element.task = null;
    this.#element.removeAttribute('request-id');
    this.#clear();
  }

  #clear() {
    this.#shown = null;
    $('lesson').hidden = true;
    $('lesson').replaceChildren();
    this.#linkParts(false);
    showStory([], HINT);
  }

  #storySoon() {
    this.#painting ||= setTimeout(() => {
      this.#painting = 0;
      this.#story();
    }, 50);
  }

  #story() {
    if (!this.task || this.task === this.#shown) return;
    const { output, status } = this.task.view;
    const writing = status === 'started' || status === 'processing' || status === 'queued';
    showStory(output.split(/\n{2,}/), writing ? HINT : 'It was not written.');
    $('story').classList.toggle('writing', writing && Boolean(output));
    this.#linkParts(false);
  }

  async #ended({ task, status }) {
    if (status !== 'completed') {
      if (this.#shown === task) this.#shown = null;
      return this.#story();
    }
    const lesson = await task.result().catch(() => null); // waits for the network, if need be
    if (!lesson || task !== this.task) return;
    this.#shown = task;
    showStory(lesson.story.paragraphs);
    $('story').classList.remove('writing');
    $('lesson').replaceChildren(...lessonParts(lesson));
    $('lesson').hidden = false;
    this.#linkParts(true);
  }

  // A link without an address is one that leads nowhere yet: its room is there from the beginning.
  #linkParts(ready) {
    for (const link of $('jump').children) {
      const there = ready || (link.dataset.to === '#story' && this.task?.view.output);
      if (there) link.setAttribute('href', link.dataset.to);
      else link.removeAttribute('href');
    }
  }
}

function showStory(paragraphs, hint = '') {
  const box = $('story-text');
  const wanted = paragraphs.map((text) => text.trim()).filter(Boolean);
  box.classList.toggle('quiet', !wanted.length);
  const texts = wanted.length ? wanted : [hint];
  texts.forEach((text, index) => write(box.children[index] ?? box.appendChild(make('p')), text));
  while (box.children.length > texts.length) box.lastElementChild.remove();
}
