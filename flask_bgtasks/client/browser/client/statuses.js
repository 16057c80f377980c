// Asks the backend how tasks stand, as many of them as there are.

export const MOST_IDS = 80; // in one address: 37 characters each, and gunicorn takes lines of 4,094

/**
 * The answers for these tasks, some at a time: `{tasks, missing, expired}`. Where nobody is logged in who should be
 * (`expired`), the backend does not know whose they are: none is missing for that.
 */
export async function* statuses(http, ids, { signal } = {}) {
  for (let at = 0; at < ids.length; at += MOST_IDS) {
    const { tasks, missing, anonymous } = await http.json(`?ids=${ids.slice(at, at + MOST_IDS).join(',')}`, { signal });
    const expired = anonymous && missing.length > 0;
    yield { tasks, missing: expired ? [] : missing, expired };
  }
}
