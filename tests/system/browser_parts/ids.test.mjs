// What is no id of a task gets into no address, from wherever it comes.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { restReader } from '../../../flask_bgtasks/client/browser/client/network/firestore.js';
import { history } from '../../../flask_bgtasks/client/browser/client/network/history.js';
import { InvalidRequestId, asRequestId, isRequestId, isSound, listOf, pathOf } from '../../../flask_bgtasks/client/browser/client/ids.js';
import { sightingOfPush } from '../../../flask_bgtasks/client/browser/client/device/push.js';
import { Sightings } from '../../../flask_bgtasks/client/browser/client/device/sightings.js';
import { statuses } from '../../../flask_bgtasks/client/browser/client/network/statuses.js';
import { memoryStore } from '../../../flask_bgtasks/client/browser/client/device/store.js';

const ID = '0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d';
const OTHER = '1c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d';
const NONE = [
  '../sample?x=', 'x0,x1,x2', '', '..', '.', `${ID}/../../admin`, `${ID}?a=b`, `${ID}#`, `${ID},${OTHER}`, `${ID}\n`.repeat(2), 'a/b',
  '%2e%2e', `{${ID}}`, `urn:uuid:${ID}`, ID.replaceAll('-', ''), ID.replace('0', 'g'), ID.replace('0', '０'), `${ID}\0`, '__x__',
];

test('an id is taken with spaces around it and in capitals, and written as the server does', () => {
  assert.equal(asRequestId(` ${ID.toUpperCase()}\n`, 'follow'), ID);
  assert.equal(pathOf(ID, 'cancel'), `/${ID}/cancel`);
  assert.equal(listOf([ID, OTHER]), `${ID},${OTHER}`);
});

for (const given of [...NONE, null, undefined, 7, {}, [ID]]) {
  test(`no id: ${JSON.stringify(given)}`, async () => {
    assert.equal(isRequestId(given), false);
    assert.throws(() => asRequestId(given, 'follow'), (error) => (
      error instanceof InvalidRequestId && error instanceof TypeError && /^follow: expected the id of a task, a UUID like/.test(error.message)));
    assert.throws(() => pathOf(given, 'result'), InvalidRequestId);
    assert.throws(() => listOf([ID, given]), InvalidRequestId);
    assert.equal(sightingOfPush({ data: { request_id: given, status: 'completed', seq: '9' } }), null);
    assert.equal(await sightings().sight({ request_id: given, status: 'completed', seq: 9, attempt: 1 }, { create: true }), false);
    await assert.rejects(async () => sightings().insert({ key: 'k', request_id: given }), InvalidRequestId);
    assert.equal(isSound({ type: 'event', requestId: given ?? 'null' }), false);
    assert.equal(isSound({ key: 'k', request_id: given ?? 'null' }), false);
    const reader = restReader({ projectId: 'p', fetch: () => assert.fail('it was asked for') });
    await assert.rejects(reader.get(given), InvalidRequestId);
    await assert.rejects(reader.result(given), InvalidRequestId);
    assert.deepEqual(await history({ json: () => assert.fail('it was asked for') }, given, 0), []);
  });
}

test('an error shows no more than the beginning of what was given', () => {
  assert.ok(new InvalidRequestId('x'.repeat(10_000), 'follow').message.length < 250);
});

test('of tasks that were not asked for, an answer says nothing', async () => {
  const answer = { tasks: [{ request_id: OTHER }, { request_id: '../x' }, null, { request_id: ID }], missing: ['../x', OTHER], anonymous: false };
  const found = [];
  for await (const one of statuses({ json: async () => answer }, [ID])) found.push(one);

  assert.deepEqual(found, [{ tasks: [{ request_id: ID }], missing: [], expired: false }]);
});

test('JSON of somebody else is no status', async () => {
  for (const answer of [null, {}, [], { tasks: [] }, { tasks: 'none', missing: [] }]) {
    await assert.rejects(statuses({ json: async () => answer }, [ID]).next(), { name: 'Unreachable' });
  }
});

test('what is known of a task of somebody else on this device is not told here', async () => {
  const store = memoryStore();
  const told = [];
  const of = (owner) => new Sightings({ store, owner, hub: { send: (message) => told.push(message.type) } });
  await of('ann').insert({ key: `id:${ID}`, request_id: ID, owner: 'ann', state: 'following', seq: 0, settled_seq: 0, attempt: 0, provisional: null });

  assert.equal(await of('ben').sight({ request_id: ID, status: 'completed', seq: 9, attempt: 1 }, { create: true }), false);
  assert.deepEqual(told, []);
  assert.deepEqual([await of('ben').isAnothers(ID), await of('ann').isAnothers(ID), await of('ben').isAnothers(OTHER)], [true, false, false]);
  assert.equal(await of('ann').sight({ request_id: ID, status: 'completed', seq: 9, attempt: 1 }), true);
});

function sightings() {
  return new Sightings({ store: memoryStore(), hub: { send() {} }, owner: null });
}
