// The parser of event streams: the examples and rules of the WHATWG (HTML, section 9.2), however the bytes are cut.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Parser, readEvents } from '../../../flask_bgtasks/client/browser/client/network/sse.js';

const parse = (...chunks) => {
  const parser = new Parser();
  return chunks.flatMap((chunk) => [...parser.feed(chunk)]);
};
const event = (data, more = {}) => ({ event: 'message', data, id: '', retry: null, ...more });

test('the examples of the standard', () => {
  assert.deepEqual(parse('data: YHOO\ndata: +2\ndata: 10\n\n'), [event('YHOO\n+2\n10')]);
  assert.deepEqual(
    parse(': test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n'),
    [event('first event', { id: '1' }), event('second event'), event(' third event')],
  );
  assert.deepEqual(parse('data\n\ndata\ndata\n\ndata:'), [event(''), event('\n')]);
  assert.deepEqual(parse('data:test\n\ndata: test\n\n'), [event('test'), event('test')]);
});

test('an id holds for the events after it, one with NUL is ignored', () => {
  assert.deepEqual(parse('id: 7\ndata: a\n\ndata: b\n\nid: 8\0\ndata: c\n\n').map(({ id }) => id), ['7', '7', '7']);
});

test('retry takes digits only, and is told with the next event', () => {
  assert.deepEqual(parse('retry: 300\n\ndata: a\n\nretry: 3s\ndata: b\n\n').map(({ retry }) => retry), [300, null]);
});

test('an event without data is none, and leaves no name behind', () => {
  assert.deepEqual(parse('event: ping\n\ndata: a\n\n'), [event('a')]);
});

test('an event that was not finished is dropped', () => {
  assert.deepEqual(parse('data: a\n\ndata: b\n'), [event('a')]);
});

test('unknown fields are passed over', () => {
  assert.deepEqual(parse('colour: red\ndata: a\n\n'), [event('a')]);
});

test('lines end in LF, CR or CRLF, and text may be cut anywhere', () => {
  for (const end of ['\n', '\r', '\r\n']) {
    const text = ['retry: 5', 'event: step', 'id: 12', 'data: one', 'data: two', '', 'data: three', '', ': ping', ''].join(end) + end;
    const whole = parse(text);
    assert.equal(whole.length, 2);
    for (let size = 1; size < 9; size += 1) {
      assert.deepEqual(parse(...(text.match(new RegExp(`[^]{1,${size}}`, 'g')))), whole, `${JSON.stringify(end)} by ${size}`);
    }
  }
});

test('bytes: a byte order mark goes, and a character may be cut in the middle', async () => {
  const bytes = new TextEncoder().encode('\ufeffdata: Übung €\n\n');
  for (let size = 1; size < 5; size += 1) {
    let chunks = 0;
    const stream = new ReadableStream({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
        controller.close();
      },
    });
    const events = [];
    for await (const found of readEvents(stream, () => { chunks += 1; })) events.push(found.data);
    assert.deepEqual(events, ['Übung €']);
    assert.equal(chunks, Math.ceil(bytes.length / size), 'every chunk is a sign of life');
  }
});
