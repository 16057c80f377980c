// Whose word an answer is: the backend's, or that of something on the way to it (a proxy during a deploy, a firewall, a
// captive portal). Only the backend's word ends anything. `flask_bgtasks/client/flows/provenance.py` is the same in Python,
// and tests/data/answers.json is the table that both are tested against.

import { isRequestId } from './ids.js';

const PROBLEMS = 'https://flask-bgtasks.readthedocs.io/problems/#'; // what the `type` of our problem documents begins with

/**
 * How long a submission is tried again that is answered by something that does not look like the backend: longer than a
 * deploy, than a wrong rule of a firewall is left standing, and than a night behind a hotel's login page.
 */
export const DOUBTED_FOR = 24 * 3_600_000;

const TO_ANOTHER_PAGE = new Set([301, 302, 303]); // of the app: to its login
const LATER = new Set([408, 425, 429]); // and every 5xx, whoever says it

/**
 * Refusals of the way to the view, rather than of the request: gateways and firewalls give them too, also as JSON. They
 * need a mark of the backend.
 */
const OF_THE_WAY = new Set([403, 404, 405, 407, 421, 451]);

/**
 * What an answer to a submission means: `{verdict, requestId, problem, retryAfter}`.
 *
 * | verdict | |
 * | --- | --- |
 * | `accepted` | the backend has the task `requestId`, whatever the status |
 * | `blocked` | 401, or the app's redirect to its login: somebody has to log in again |
 * | `later` | for now there is no answer: 408, 409 with Retry-After, 425, 429, 5xx; `problem` has the server's sentence |
 * | `rejected` | the backend, or the app, says no; `problem` says why |
 * | `doubted` | nothing shows that the backend said this: tried again, for {@link DOUBTED_FOR} |
 *
 * Marks of the backend: `Task-Id`; `Vary: Prefer`, which the app's answer to any request with `Prefer` has; a problem
 * document of ours. Beside them JSON counts as the app's own answer, if its status judges what was sent and not the way there.
 *
 * @param answer `{status, headers: {get}, redirected, text()}`: a Response, or alike.
 */
export async function judge(answer) {
  const { status, headers } = answer;
  const requestId = headers.get('task-id');
  if (isRequestId(requestId)) return { verdict: 'accepted', requestId };
  const varies = names(headers.get('vary'), 'prefer');
  const elsewhere = TO_ANOTHER_PAGE.has(status) || (answer.redirected && status < 300); // `fetch` has followed
  if (status === 401 || (elsewhere && varies)) return { verdict: 'blocked' };
  if (LATER.has(status) || status >= 500 || (status === 409 && headers.get('retry-after'))) {
    return { verdict: 'later', problem: { title: answer.statusText, ...record(await documentOf(answer)), status } };
  }
  const document = await documentOf(answer);
  if (status === 202 && isRequestId(document?.request_id)) return { verdict: 'accepted', requestId: document.request_id };
  const marked = varies || isOurs(problemIn(headers, document));
  const appsOwn = document !== undefined && !elsewhere && (status < 300 || status >= 400) && !OF_THE_WAY.has(status);
  if (!marked && !appsOwn) return { verdict: 'doubted', problem: unlike(answer) };
  if (status < 300) return { verdict: 'rejected', problem: noTask(answer) };
  return { verdict: 'rejected', problem: { title: answer.statusText, status, ...record(document) } };
}

async function documentOf(answer) {
  return isJSON(answer.headers.get('content-type')) ? parsed(await answer.text()) : undefined;
}

/** Whether a problem document is of the library: the only one that may end a task that is known. */
export function isOurs(problem) {
  return typeof problem?.type === 'string' && problem.type.startsWith(PROBLEMS);
}

/**
 * Whether an answer under the blueprint's prefix is the backend's refusal: a problem of ours, or one without a type of
 * its own (`about:blank`), as which any other error there is answered.
 */
export function isRefusal({ status, headers }, document) {
  const problem = problemIn(headers, document);
  return isOurs(problem) || (problem?.type === 'about:blank' && problem.status === status);
}

export function isJSON(type) {
  return /^[^;]*[+/]json\s*(;|$)/i.test(type ?? '');
}

/** The value of a JSON text, undefined where it is none. */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What is said of an answer that does not look like the backend's. */
export function unlike({ status, headers }) {
  const type = headers.get('content-type') ?? 'no content type';
  return {
    type: 'unrecognized-response', title: 'The backend did not answer', status, content_type: type,
    detail: `The answer was ${status} (${type}) and does not look like the backend's: it has no Task-Id, no "Vary: Prefer", `
      + 'and is neither a problem document nor JSON of the app. Something on the way gave it, a proxy or a login page, or '
      + 'the address is wrong, or BGTASKS_CORS_ORIGINS does not name the origin of this page.',
  };
}

function noTask({ status, headers }) {
  return {
    title: 'This address runs no background task', status,
    detail: `The answer was ${status} (${headers.get('content-type') ?? 'no content type'}) without a Task-Id: the view is not `
      + 'under @bgtasks.background, or BGTASKS_CORS_ORIGINS does not name the origin of this page.',
  };
}

function problemIn(headers, document) {
  return /^application\/problem\+json\s*(;|$)/i.test(headers.get('content-type') ?? '') ? record(document) : null;
}

/** The members of a JSON object; none of anything else. */
export function record(document) {
  return document && typeof document === 'object' && !Array.isArray(document) ? document : {};
}

function names(header, name) {
  return (header ?? '').split(',').some((one) => one.trim().toLowerCase() === name);
}
