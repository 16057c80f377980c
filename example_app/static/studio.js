// The page: makes the client, puts its parts together, and goes by the address: `?task=…` is a lesson, without it the
// form. What runs when the page is opened is opened by itself.

import '/tasks/bg-task.js';
import { BackgroundTasks, isRequestId, restReader } from '/tasks/client.js';
import { compose } from './compose.js';
import { connection } from './connection.js';
import { $, addressOf, make } from './dom.js';
import { Lesson } from './lesson.js';
import { Lessons } from './lessons.js';
import { offline } from './offline.js';
import { phone, phoneToken } from './phone.js';

const TOAST = 12_000;

const config = JSON.parse($('config').textContent);
const hasPhone = config.phone === 'here';
const bg = new BackgroundTasks({
  discover: false, // it has no logins, so there is nobody whose tasks the server could list
  userToken: () => (hasPhone ? phoneToken() : null),
  firestore: config.firestore && restReader(config.firestore),
});
const lesson = new Lesson(bg);
const lessons = new Lessons(bg, (record) => document.body.dataset.view === 'lesson' && record.key === lesson.task?.key);

/* -- where we are ----------------------------------------------------------------------------------------------- */

function show(view) {
  document.body.dataset.view = view;
  if (view !== 'lesson') lesson.close();
  lessons.refresh();
  titled();
}

function openTask(task) {
  show('lesson'); // first: what is not shown takes no focus
  lesson.open(task);
  titled();
  task = lesson.task;
  task.accepted.then((id) => {
    if (lesson.task === task && here() !== id) history.replaceState(null, '', addressOf(id)); // a reload finds it
  }, () => {});
}

/** Go by the address. */
function arrive() {
  const id = here();
  if (id) openTask(id);
  else show('compose');
}

/** The task that the address names. An address comes from anywhere: what is no id names none. */
function here() {
  const id = new URLSearchParams(location.search).get('task');
  return isRequestId(id) ? id : null;
}

document.addEventListener('click', (event) => {
  const link = event.target.closest('a[data-go][href]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, '', link.href);
  arrive();
  if (!here()) $('text').focus();
});
addEventListener('popstate', arrive);

/* -- what the client tells -------------------------------------------------------------------------------------- */

bg.addEventListener('settled', ({ detail: { task, requestId, status, record } }) => {
  titled();
  if (task.key === lesson.task?.key || status === 'cancelled') return;
  const says = status === 'completed' ? 'is ready' : 'could not be made';
  const label = record.label ?? 'Your lesson';
  const link = make('a', { href: addressOf(requestId) }, `“${label}” ${says}`);
  link.dataset.go = '';
  const toast = make('p', { className: 'toast' }, link);
  $('toasts').replaceChildren(toast);
  setTimeout(() => toast.remove(), TOAST);
  link.addEventListener('click', () => toast.remove());
});
bg.addEventListener('progress', titled);

function titled() {
  const view = lesson.task?.view;
  const running = view?.status === 'started' || view?.status === 'processing';
  document.title = running ? `${Math.floor(view.percentage)}% · Lesson studio` : 'Lesson studio';
}

/* -- off we go -------------------------------------------------------------------------------------------------- */

compose(bg, (task) => {
  history.pushState(null, '', task.requestId ? addressOf(task.requestId) : location.pathname);
  openTask(task);
});
connection(bg);
if (hasPhone) phone(bg);

await bg.ready;
if (!here()) {
  const running = (await bg.pending()).filter((record) => record.request_id).at(-1);
  if (running) history.replaceState(null, '', addressOf(running.request_id));
}
arrive();
offline();
