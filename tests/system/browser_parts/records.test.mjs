// The state machine of a record, by examples and by thousands of random histories against a few promises.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as records from '../../../flask_bgtasks/client/browser/client/records.js';

const NOW = 1_000_000;
const followed = () => records.known('task', { now: NOW });
const ended = (seq, more = {}) => ({ status: 'completed', seq, attempt: 1, via: 'stream', ...more });

test('an outcome is news once, whatever brings it again', () => {
  const settled = records.settled(followed(), ended(9), NOW);

  assert.equal(settled.state, 'settled');
  for (const via of ['stream', 'poll', 'push', 'firestore']) assert.equal(records.settled(settled, ended(9, { via }), NOW), null);
});

test('after a retry another outcome is news', () => {
  const acked = records.acked(records.announced(records.settled(followed(), ended(9, { status: 'failed' }), NOW), 9, NOW), 9, NOW);
  const again = records.reopened(acked, NOW);

  assert.equal(records.settled(again, ended(9, { status: 'failed' }), NOW), null, 'the old one, seen late');
  assert.equal(records.settled(again, ended(17), NOW).settled_seq, 17);
});

test('an outcome after a retry elsewhere is news to a device that was told of the first', () => {
  const announced = records.announced(records.settled(followed(), ended(9, { status: 'failed' }), NOW), 9, NOW);

  assert.equal(records.settled(announced, ended(17), NOW)?.state, 'settled');
});

test('a mirror without numbers settles, and the number that comes later is no second outcome', () => {
  const provisional = records.settled(followed(), ended(null, { via: 'firestore' }), NOW);
  const announced = records.announced(provisional, provisional.settled_seq, NOW);
  const confirmed = records.settled(announced, ended(9), NOW);

  assert.equal(confirmed.state, 'announced');
  assert.deepEqual([confirmed.settled_seq, confirmed.announced_seq], [9, 9]);
  assert.equal(records.settled(confirmed, ended(9, { via: 'push' }), NOW), null);
});

test('progress never falls, and nothing older is taken', () => {
  const at = (seq, percentage, attempt = 1) => ({ status: 'processing', seq, attempt, progress: { progress_percentage: percentage } });
  let record = records.progressed(followed(), at(5, 40), NOW);

  assert.equal(records.progressed(record, at(4, 80), NOW), null);
  record = records.progressed(record, at(7, 10, 2), NOW);
  assert.equal(record.progress.progress_percentage, 40);
  assert.equal(records.progressed(record, at(9, 90, 1), NOW), null, 'of an attempt that is over');
});

test('a submission goes out, comes back, and is refused after seven days only', () => {
  const queued = records.submission('key', { url: 'u', body: '{}' }, { now: NOW });
  const sending = records.sending(queued, NOW);
  const back = records.postponed(sending, NOW + 500, NOW);

  assert.deepEqual([sending.state, sending.tries, back.state, back.next_try_at], ['sending', 1, 'queued', NOW + 500]);
  assert.equal(records.accepted(records.sending(back, NOW), 'task', NOW).body, null, 'the body is no longer needed');
  assert.equal(queued.expires_at - NOW, 7 * 86_400_000);
});

test('what a push told before the answer came is not told again', () => {
  const pushed = records.announced(records.settled(followed(), ended(9, { via: 'push' }), NOW), 9, NOW);
  const sending = records.sending(records.submission('key', { url: 'u' }, { now: NOW, label: 'Whales' }), NOW);
  const accepted = records.accepted(sending, 'task', NOW, pushed);

  assert.deepEqual([accepted.key, accepted.state, accepted.label, accepted.settled_seq], ['key', 'announced', 'Whales', 9]);
  assert.equal(records.settled(accepted, ended(9), NOW), null);
});

test('a submission stays its owner\'s, whoever else was told of its task', () => {
  const pushed = records.announced(records.settled(followed(), ended(9, { via: 'push' }), NOW), 9, NOW);
  const sending = records.sending(records.submission('key', { url: 'u' }, { now: NOW, owner: 'ann' }), NOW);

  assert.equal(records.accepted(sending, 'task', NOW, pushed).owner, 'ann');
});

test('gone needs two answers, half a minute apart', () => {
  const once = records.missed(followed(), NOW);

  assert.equal(once.state, 'following');
  for (const seq of [0, 3]) {
    assert.equal(records.progressed(once, { seq, attempt: 1 }, NOW).missing, 0, 'a sign of life between them');
  }
  assert.equal(records.missed(once, NOW + 29_999), null);
  assert.equal(records.missed(once, NOW + 30_000).state, 'gone');
  assert.equal(records.missed(once, NOW - 60_000).state, 'following', 'a clock that was set back');
});

test('what was taken over from a store for all apps, and is not this one\'s, goes without a word', () => {
  const once = records.missed({ ...followed(), taken_over: true }, NOW);

  assert.deepEqual([records.missed(once, NOW + 30_000)].map(({ state, hidden }) => [state, hidden]), [['acked', true]]);
});

test('what a server said that could not take it is kept until one does', () => {
  const sending = records.sending(records.submission('key', { url: 'u' }, { now: NOW }), NOW);
  const later = records.postponed(sending, NOW + 5000, NOW, { status: 503, detail: 'Too many.', since: NOW });

  assert.deepEqual([later.state, later.refusal.status, later.next_try_at], ['queued', 503, NOW + 5000]);
  assert.equal(records.accepted(records.sending(later, NOW), 'task', NOW).refusal, null);
  assert.equal(records.postponed(records.sending(later, NOW), NOW, NOW).refusal, null, 'then nobody answered');
});

test('what could not be reported as seen for a week is given up', () => {
  const announced = { ...followed(), state: 'announced', changed_at: NOW - 7 * 86_400_000 };

  assert.deepEqual(records.prunable([announced], NOW), [announced.key]);
  assert.deepEqual(records.prunable([announced], NOW - 1), []);
});

test('nothing pending is pruned; what is over goes after a day, or beyond two hundred', () => {
  const over = Array.from({ length: 250 }, (_, index) => ({ ...followed(), key: `o${index}`, state: 'acked', changed_at: NOW - index }));
  const old = { ...followed(), key: 'old', state: 'gone', changed_at: NOW - 86_400_001 };
  const open = ['queued', 'sending', 'following', 'settled', 'announced', 'blocked'].map((state) => ({ ...old, key: state, state }));

  const gone = records.prunable([...over, old, ...open], NOW);

  assert.ok(gone.includes('old'));
  assert.equal(over.length - gone.filter((key) => key.startsWith('o') && key !== 'old').length, 200 - open.length);
  assert.deepEqual(gone.filter((key) => open.some((record) => record.key === key)), []);
});

test('no history of sightings announces an outcome twice, or never', () => {
  const random = seeded(7);
  for (let run = 0; run < 5000; run += 1) {
    // What really happened to the task: some attempts, each with its end.
    const ends = Array.from({ length: 1 + random(3) }, (_, index) => ({ seq: (index + 1) * 10 + random(5), attempt: index + 1 }));
    const newest = ends.at(-1);
    let record = followed();
    const announcements = [];
    const announce = () => {
      if (record.state !== 'settled') return;
      record = records.announced(record, record.settled_seq, NOW);
      announcements.push(record.announced_seq);
    };
    const sightings = Array.from({ length: 12 }, () => ends[random(ends.length)]);
    for (const { seq, attempt } of [...sightings, newest]) {
      const before = record.settled_seq;
      const more = { status: ['completed', 'failed'][random(2)], attempt, via: ['stream', 'poll', 'push', 'firestore'][random(4)] };
      record = records.settled(record, { ...more, seq }, NOW) ?? record;
      record = records.progressed(record, { status: 'processing', seq: seq - 1, attempt }, NOW) ?? record;
      assert.ok(record.settled_seq >= before, 'numbers only grow');
      if (random(2)) announce(); // a crash leaves it settled: announced at the next start
    }
    announce();

    assert.equal(new Set(announcements).size, announcements.length, `twice: ${announcements}`);
    assert.equal(announcements.at(-1), newest.seq, 'the newest outcome is told');
  }
});

/** Small whole numbers, the same ones each time (mulberry32). */
function seeded(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
