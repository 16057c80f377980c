// Whose word an answer is, by the table that the Python client is tested with too.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { Refused, Unreachable, refusal } from '../../../flask_bgtasks/client/browser/client/network/http.js';
import { isOurs, isRefusal, judge } from '../../../flask_bgtasks/client/browser/client/provenance.js';

const ID = '0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d';
const TABLE = JSON.parse(readFileSync(new URL('../../data/answers.json', import.meta.url), 'utf-8').replaceAll('ID', ID));

const answerOf = ({ status, headers, body, redirected = false }) => (
  { status, statusText: '', headers: new Headers(headers), redirected, text: async () => body });

for (const row of TABLE.submissions) {
  test(`submission: ${row.name}`, async () => {
    const { verdict, requestId, problem } = await judge(answerOf(row));

    assert.equal(verdict, row.verdict);
    assert.equal(requestId, row.verdict === 'accepted' ? ID : undefined);
    if (verdict === 'doubted') {
      assert.match(problem.detail, new RegExp(`^The answer was ${row.status} \\(.*does not look like the backend's`));
      if (row.headers['content-type']) assert.ok(problem.detail.includes(row.headers['content-type']));
    }
    if (verdict === 'rejected') assert.equal(problem.status, row.status);
  });
}

for (const row of TABLE.refusals) {
  test(`under the prefix: ${row.name}`, async () => {
    const error = await refusal(answerOf(row));

    assert.ok(error instanceof (row.refusal ? Refused : Unreachable));
    if (row.refusal) assert.equal(isOurs(error.problem), row.final);
    else assert.match(error.message, new RegExp(`${row.status} \\(${row.headers['content-type'].replace('+', '\\+')}`));
  });
}

test('a document of another kind than an object is no problem', () => {
  for (const document of [null, 'about:blank', 404, ['about:blank']]) {
    assert.equal(isRefusal({ status: 404, headers: new Headers({ 'content-type': 'application/problem+json' }) }, document), false);
  }
});
