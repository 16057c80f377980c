// No text takes more than its share of time: four times the text, four times the time. For every regular expression of
// the module, and for the parser of streams, whose text may come in any number of pieces.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

import { Parser } from '../../../flask_bgtasks/client/browser/client/network/sse.js';

const MODULE = new URL('../../../flask_bgtasks/client/browser/', import.meta.url);
const LITERAL = /(?<=[(,=:?|&!{[] ?)\/(?![/*])(?:[^/\n\\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/g;
const CHARACTERS = [...'a0 -="\'\\;,:./@_?{<\n'];
const LENGTH = 2_000;
const QUICK = 1; // milliseconds of this process's own time, which others do not lengthen
const LARGEST_RATIO = 9; // for four times the text: 4 if linear, 16 if quadratic

const files = readdirSync(MODULE, { recursive: true }).filter((name) => name.endsWith('.js'));
const patterns = files.flatMap((name) => {
  const code = readFileSync(new URL(name, MODULE), 'utf8').replace(/^\s*(\/\/|\*|\/\*).*$/gm, '');
  return [...code.matchAll(LITERAL)].map(([literal]) => ({ name, literal }));
});

function compiled(literal) {
  const end = literal.lastIndexOf('/');
  return new RegExp(literal.slice(1, end), literal.slice(end + 1));
}

function timed(read, text) {
  const begun = process.cpuUsage();
  read(text);
  return process.cpuUsage(begun).user / 1000;
}

const best = (read, text) => Math.min(...[1, 2, 3].map(() => timed(read, text)));

function grows(read, made) {
  if (best(read, made(LENGTH)) < QUICK) return false;
  return [1, 2, 3].every(() => best(read, made(4 * LENGTH)) > LARGEST_RATIO * best(read, made(LENGTH)));
}

function worst(pattern) {
  const read = (text) => text.replace(pattern, '');
  for (const one of CHARACTERS) {
    for (const two of ['', ...CHARACTERS]) {
      const made = (length) => `${one}${(one + two).repeat(length / (one + two).length)}\0`;
      if (grows(read, made)) return one + two;
    }
  }
  return null;
}

test('a pattern takes time in proportion to the text', () => {
  assert.ok(patterns.length > 5, 'they are found');
  for (const { name, literal } of patterns) assert.equal(worst(compiled(literal)), null, `${name}: ${literal}`);
});

test('one that takes more than its share is found', () => {
  for (const literal of ['/a+$/', '/\\s+$/']) assert.notEqual(worst(compiled(literal)), null, literal);
});

test('a line of a stream that comes in many pieces is put together once', () => {
  const read = (text) => {
    const parser = new Parser();
    for (let begin = 0; begin < text.length; begin += 8) [...parser.feed(text.slice(begin, begin + 8))];
  };
  const made = (length) => `data: ${'a'.repeat(length * 16)}`;
  assert.ok(!grows(read, made) || !grows(read, made)); // the compiler's own work counts too, once
});
