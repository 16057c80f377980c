// Pushes: what one says of a task, and how a browser is registered for them.

import { isRequestId } from '../ids.js';

/**
 * What a push says: `{request_id, status, seq, attempt, link, title, body}`; null where it is of no task.
 * Takes the JSON of a Web Push, and the same as FCM wraps it: data's values are text there.
 */
export function sightingOfPush(message) {
  const shown = message?.notification ?? {};
  const data = { ...shown.data, ...message?.data };
  if (!message?.notification && !message?.data) Object.assign(data, message); // data alone, as the page may get it
  if (!isRequestId(data.request_id)) return null;
  const number = (text) => (text === undefined || text === null || text === '' ? null : Number(text));
  return {
    request_id: data.request_id, status: data.status, seq: number(data.seq), attempt: number(data.attempt) ?? 0, via: 'push',
    link: data.link ?? shown.navigate ?? message?.fcmOptions?.link ?? null,
    title: shown.title ?? null, body: shown.body ?? '', error_message: null, progress: null,
  };
}

/** Subscribe this browser and register it as a device. Returns the device, as the backend answers. */
export async function register(http, { vapidKey, registration, scope = '/', app, lang = navigator.language, worker }) {
  const key = vapidKey ?? (await http.json('/devices'))?.application_server_key;
  if (!key) throw new Error('registerPush: the server names no application_server_key: is the sink "webpush" configured? Else pass vapidKey');
  if ((await Notification.requestPermission()) !== 'granted') throw new Error('registerPush: the user has not allowed notifications');
  const home = registration ?? (await navigator.serviceWorker.register(worker, { type: 'module', scope }));
  await navigator.serviceWorker.ready;
  const subscription = await home.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  return http.json('/devices', {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ kind: 'webpush', value: subscription.toJSON(), platform: 'web', ...(app && { app }), ...(lang && { lang }) }),
  });
}
