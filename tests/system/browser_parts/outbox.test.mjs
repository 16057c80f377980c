// What becomes of a submission that something on the way answers, and whose submissions are sent. No browser is needed.
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import { Http } from '../../../flask_bgtasks/client/browser/client/network/http.js';
import { Outbox } from '../../../flask_bgtasks/client/browser/client/device/outbox.js';
import * as records from '../../../flask_bgtasks/client/browser/client/records.js';
import { memoryStore } from '../../../flask_bgtasks/client/browser/client/device/store.js';

const HOUR = 3_600_000;
const ID = '0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d';
const html = (status, headers = {}) => new Response(status === 204 ? null : '<h1>Sorry', { status, headers: { 'content-type': 'text/html', ...headers } });

/** An outbox with one submission in it, and a server that answers as `answers` says. */
async function started({ owner = null, needs_page = false, sends, answers }) {
  const store = memoryStore();
  const told = [];
  const sent = [];
  const fetch = async (url, { headers }) => {
    sent.push(headers['Idempotency-Key']);
    return answers();
  };
  const http = new Http({ base: 'http://studio.example/tasks', fetch });
  const outbox = new Outbox({ store, http, owner, name: 'test', told: (...news) => told.push(news), sends });
  const put = (key, more) => store.write((rows) => rows.put(records.submission(key, { url: 'http://studio.example/process', body: '{}', needs_page, ...more }, { now: Date.now(), owner, ...more })));
  await put('key', {});
  return { store, outbox, told, sent, put, record: () => store.get('key') };
}

mock.method(console, 'warn', () => {});
Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true }); // without locks

for (const status of [200, 204, 403, 404, 405, 407, 413, 421]) {
  test(`a ${status} of something on the way ends nothing`, async () => {
    let between = true;
    const { outbox, record, told } = await started({ answers: () => (between ? html(status) : html(202, { 'task-id': ID })) });

    await outbox.flush({ all: true });
    const { state, doubt, error } = await record();
    assert.deepEqual([state, doubt.status, error], ['queued', status, null]);
    between = false;
    await outbox.flush({ all: true });

    assert.deepEqual([(await record()).state, (await record()).request_id, (await record()).doubt], ['following', ID, null]);
    assert.deepEqual(told.map(([what]) => what), ['postponed', 'accepted']);
  });
}

test('after a day it is said what answered', async () => {
  mock.timers.enable({ apis: ['Date'], now: 1_700_000_000_000 });
  try {
    const { outbox, record, told } = await started({ answers: () => html(403) });
    await outbox.flush({ all: true });
    mock.timers.tick(24 * HOUR - 1);
    await outbox.flush({ all: true });
    assert.equal((await record()).state, 'queued');
    mock.timers.tick(1);
    await outbox.flush({ all: true });

    const { state, error } = await record();
    assert.equal(state, 'rejected');
    assert.match(error.detail, /^For 24 hours: The answer was 403 \(text\/html\) and does not look like the backend's/);
    assert.equal(told.at(-1)[0], 'rejected');
  } finally {
    mock.timers.reset();
  }
});

test('the waits grow to five minutes', async () => {
  const { outbox, store, record } = await started({ answers: () => html(404) });
  await store.change('key', (known) => ({ ...known, tries: 30 }));
  const waits = [];
  for (let n = 0; n < 200; n += 1) {
    await outbox.flush({ all: true });
    waits.push((await record()).next_try_at - Date.now());
  }

  assert.ok(Math.max(...waits) > 200_000 && Math.max(...waits) <= 300_000, String(Math.max(...waits)));
});

test('a redirect of the app to its login waits for a login', async () => {
  const login = () => Object.defineProperty(html(200, { vary: 'Prefer' }), 'redirected', { value: true });
  const { outbox, record, told } = await started({ answers: login });

  await outbox.flush({ all: true });

  assert.equal((await record()).state, 'blocked');
  assert.deepEqual(told[0].slice(2), [{ status: 200 }]);
});

test('an answer that breaks off in its body is no answer', async () => {
  const broken = () => new Response(new ReadableStream({ pull: (controller) => controller.error(new TypeError('network')) }), { status: 422, headers: { 'content-type': 'application/json' } });
  const { outbox, record } = await started({ answers: broken });

  await outbox.flush({ all: true });

  assert.deepEqual([(await record()).state, (await record()).doubt], ['queued', null]);
});

test('what belongs to another owner, or needs its page, is left where it is', async () => {
  const { outbox, sent, put } = await started({ answers: () => html(202, { 'task-id': ID }), sends: (record) => !record.needs_page });
  await put('of ann', { owner: 'ann' });
  await put('with headers', { needs_page: true });

  assert.equal(await outbox.flush({ all: true }), null);
  assert.deepEqual(sent, ['key']);
});
