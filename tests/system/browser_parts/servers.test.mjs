// Rendering on a server imports the modules where there is no page, and makes nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';

test('both modules can be imported without a page', async () => {
  const client = await import('../../../flask_bgtasks/client/browser/client.js');
  const element = await import('../../../flask_bgtasks/client/browser/bg-task.js');

  assert.equal(typeof client.BackgroundTasks, 'function');
  assert.equal(typeof element.BgTask, 'function');
});
