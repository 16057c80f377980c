// What a page shows, folded from events as the server sends them.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as records from '../../../flask_bgtasks/client/browser/client/records.js';
import { fold, kind, viewOf } from '../../../flask_bgtasks/client/browser/client/view.js';

let seq = 0;
const event = (name, data = {}, attempt = 1) => ({ type: kind(name, { last: true }), name, seq: (seq += 1), attempt, data });
const after = (...events) => events.reduce(fold, viewOf(records.known('task', { now: 0 })));
const step = (name, number, more = {}) => ({ step: name, path: [name], step_number: number, total_steps: 2, details: null, ...more });

test('steps, output and percentage follow the events', () => {
  const view = after(
    event('started'), event('step_started', step('Write', 1)), event('output', { offset: 0, chunks: ['Once ', 'upon '] }),
    event('progress', { step: 'Write', progress_percentage: 25, status: 'processing' }), event('output', { offset: 2, chunks: ['a time'] }),
    event('step_finished', step('Write', 1, { seconds: 2 })), event('step_started', step('Draw', 2)),
  );

  assert.deepEqual(view.steps.map(({ name, state }) => [name, state]), [['Write', 'done'], ['Draw', 'running']]);
  assert.equal(view.output, 'Once upon a time');
  assert.deepEqual([view.status, view.percentage], ['processing', 25]);
});

test('output that comes again is not shown again', () => {
  const view = after(event('output', { offset: 0, chunks: ['a', 'b'] }), event('output', { offset: 1, chunks: ['b', 'c'] }));

  assert.equal(view.output, 'abc');
});

test('a new attempt writes its output anew, and the percentage stays', () => {
  const view = after(
    event('started'), event('progress', { progress_percentage: 60, status: 'processing' }), event('output', { offset: 0, chunks: ['old'] }),
    event('started', { recovered: true }, 2), event('output', { offset: 0, chunks: ['new'] }, 2),
    event('progress', { progress_percentage: 20, status: 'processing' }, 2),
  );

  assert.deepEqual([view.output, view.attempt, view.percentage], ['new', 2, 60]);
});

test('steps within steps are not listed', () => {
  const view = after(event('step_started', step('Write', 1)), event('step_started', { ...step('Section', 1), path: ['Write', 'Section'] }));

  assert.deepEqual(view.steps.map(({ name }) => name), ['Write']);
});

test('the end closes what was open', () => {
  const begun = [event('started'), event('step_started', step('Write', 1))];

  assert.deepEqual(after(...begun, event('completed')).steps[0].state, 'done');
  assert.equal(after(...begun, event('completed')).percentage, 100);
  const failed = after(...begun, event('failed', { error_message: 'no ink' }));
  assert.deepEqual([failed.status, failed.error, failed.steps[0].state], ['failed', 'no ink', 'failed']);
});

test('an earlier end in the history is no end, and reopening begins anew', () => {
  const earlier = { ...event('failed', { error_message: 'no ink' }), type: kind('failed') };
  const view = after(event('started'), earlier, event('reopened'), event('started', {}, 2));

  assert.deepEqual([view.status, view.error, view.attempt], ['processing', null, 2]);
});

test('cancelling and retrying are shown while they last', () => {
  assert.equal(after(event('started'), event('cancel_requested')).cancelling, true);
  const retrying = after(event('started'), event('retrying', { seconds: 4, error_message: 'busy' }));
  assert.equal(retrying.retrying.seconds, 4);
  assert.equal(fold(retrying, event('started', {}, 2)).retrying, null);
});

test('a snapshot stands for events that are gone', () => {
  const view = after(event('snapshot', { status: 'processing', progress: { step: 'Draw', step_number: 2, progress_percentage: 70 } }));

  assert.deepEqual([view.status, view.percentage, view.progress.step], ['processing', 70, 'Draw']);
});
