// Ids of tasks. They come from addresses, attributes, pushes and answers, and go into the addresses of calls that carry
// the user's credentials: what is no UUID gets no further than this file.

const FORM = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/; // as the server writes them

/** Something else was given where the id of a task was expected. */
export class InvalidRequestId extends TypeError {
  constructor(value, where) {
    const given = typeof value === 'string' ? JSON.stringify(value.slice(0, 80)) : String(value);
    super(`${where}: expected the id of a task, a UUID like "0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d", got ${given}`);
    this.name = 'InvalidRequestId';
  }
}

/** Whether this is the id of a task, exactly as the server writes it. */
export function isRequestId(value) {
  return typeof value === 'string' && FORM.test(value);
}

/**
 * The id that somebody gave, as the server writes it: without spaces around it, in lower case.
 *
 * @param where names the call in the error.
 * @throws InvalidRequestId it is none.
 */
export function asRequestId(value, where) {
  const id = typeof value === 'string' ? value.trim().toLowerCase() : value;
  if (!isRequestId(id)) throw new InvalidRequestId(value, where);
  return id;
}

/** The path of one task under the blueprint; `what`: `result`, `cancel` … */
export function pathOf(requestId, what) {
  return `/${encodeURIComponent(asRequestId(requestId, what))}/${what}`;
}

/** The value of `ids=`. */
export function listOf(requestIds) {
  return requestIds.map((id) => encodeURIComponent(asRequestId(id, 'ids'))).join(',');
}

/** Whether what another tab, the service worker or a file says is about a task, or about none. */
export function isSound({ request_id: id = null, requestId = null }) {
  return (id === null || isRequestId(id)) && (requestId === null || isRequestId(requestId));
}
