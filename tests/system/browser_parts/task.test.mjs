// What a loop over a task hears: each event once, whichever way it came, and whatever the history had of it by then.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as records from '../../../flask_bgtasks/client/browser/client/records.js';
import { history } from '../../../flask_bgtasks/client/browser/client/network/history.js';
import { Task } from '../../../flask_bgtasks/client/browser/client/task.js';

const ID = '0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d';
const STORY = ['queued', 'started', 'completed', 'reopened', 'started', 'failed'];
const eventsUpTo = (newest) => STORY.slice(0, newest).map((type, at) => ({ type, seq: at + 1, attempt: at < 4 ? 1 : 2 }));

/** A task whose backend answers with these pages, each `{ newest, seq, done }`, and the last of them from then on. */
function taskWith(...pages) {
  const asked = [];
  const http = {
    json: async (path) => {
      const after = Number(new URLSearchParams(path.split('?')[1]).get('starting_after'));
      const { newest, seq = newest, done = false } = pages.length > 1 ? pages.shift() : pages[0];
      asked.push(after);
      return { events: eventsUpTo(newest).filter((event) => event.seq > after), seq, done, trimmed: false };
    },
  };
  const client = { history: (id, after) => history(http, id, after), viewed: () => {} };
  return { task: new Task(client, records.known(ID, { now: 0 })), asked };
}

async function heard(task) {
  const events = [];
  for await (const event of task) events.push(event);
  return events.map(({ type, name, seq }) => [seq, name, type === 'terminal']);
}

const end = (status, seq) => ({ request_id: ID, status, seq, attempt: 1, progress: null, via: 'poll' });

test('an end that came while the history was read is told once', async () => {
  for (const seq of [2, 3]) { // a page that was made of the task before its end, or just then
    const { task } = taskWith({ newest: 3, seq, done: false });

    task.sighted(end('completed', 3));

    assert.deepEqual(await heard(task), [[1, 'queued', false], [2, 'started', false], [3, 'completed', true]]);
  }
});

test('an end that is followed by a retry is an event like others', async () => {
  const { task } = taskWith({ newest: 3, seq: 4 }, { newest: 6, done: true });

  task.sighted(end('failed', 6));

  assert.deepEqual(await heard(task), [
    [1, 'queued', false], [2, 'started', false], [3, 'completed', false], [4, 'reopened', false], [5, 'started', false],
    [6, 'failed', true],
  ]);
});

test('an end that the history does not have yet is told by what was seen of it', async () => {
  const { task, asked } = taskWith({ newest: 2 });

  task.sighted(end('completed', 3));

  assert.deepEqual(await heard(task), [[1, 'queued', false], [2, 'started', false], [3, 'completed', true]]);
  assert.deepEqual(asked, [0, 2]);
});
