// Follows an owner's tasks until each of them is over: the tab that leads climbs the ladder for all, and what any tab
// learns goes through the sightings. Finds tasks, too, that this device does not know of.

import { isRequestId } from '../ids.js';
import * as records from '../records.js';
import { coalesced } from '../tabs/coalesce.js';
import { Leader } from '../tabs/leader.js';
import { visible } from '../tabs/lifecycle.js';
import { Refused } from './http.js';
import { Ladder } from './ladder.js';
import { statuses } from './statuses.js';

const ASK_AGAIN = 31_000; // milliseconds: after them a task that is missing twice is gone
const LOOK = { at: [0, 1000, 2000], timeout: 3000 }; // on waking: no answer in 3 s means that connections are dead

export class Follower {
  #session;
  #sightings;
  #ladder;
  #leader;
  #gone;
  #asking = null;

  /**
   * @param mirror reads Firestore, or null.
   * @param times `{poll, monitor, stall}` in milliseconds, as the ladder has them.
   * @param channel `channel()` is how tasks are followed at the moment.
   * @param gone `gone(record)`: the backend has this task no more.
   * @param back called when the backend is reached again.
   * @param slept called when a timer came so late that the device must have slept.
   */
  constructor(session, { sightings, mirror, times, channel, gone, back, slept }) {
    this.#session = session;
    this.#sightings = sightings;
    this.#gone = gone;
    this.#ladder = new Ladder({ http: session.http, mirror, core: this.#core({ back, slept }), times });
    this.#leader = new Leader({
      name: `${session.name}:leader`, hub: session.hub, locks: session.locks,
      lead: (signal) => this.#ladder.run(signal), state: () => ({ channel: channel() }),
    });
  }

  /** Whether this tab follows for all. */
  get leading() {
    return this.#leader.leading;
  }

  /** Stand for the lead, until `rest`. */
  stand() {
    this.#leader.stand();
  }

  rest() {
    clearTimeout(this.#asking);
    this.#leader.rest();
  }

  /** Let a tab lead that would rather. */
  yield() {
    this.#leader.yield();
  }

  /** Something has changed: `ids`, `offline`, or anything that may be for the better. */
  kick(why) {
    this.#ladder.kick(why);
  }

  /** Ask once how all tasks stand, whether or not this tab leads. An open stream is believed if somebody answers. */
  async check(why) {
    const { streaming } = this.#ladder;
    if (!streaming) this.#ladder.kick(why);
    const reached = await this.#look();
    if (streaming || !reached) this.#ladder.kick(why, { reached });
  }

  #look = coalesced(() => this.#lookAtAll());

  /** Take up the tasks of this owner that nobody has seen the end of: submitted elsewhere, or here before records were lost. */
  async discover() {
    let page;
    try {
      page = await this.#session.http.json('?seen=false');
    } catch {
      return; // nobody is logged in, or there is no network: the next start asks again
    }
    for (const brief of Array.isArray(page?.tasks) ? page.tasks : []) {
      if (!isRequestId(brief?.request_id)) continue;
      const now = Date.parse(brief.created_at) || Date.now();
      const { made } = await this.#sightings.insert(records.known(brief.request_id, { now, owner: this.#session.owner }));
      if (!made) continue;
      this.#session.recovered(brief.request_id, 'discovered', null, 'the server has it, this device did not know of it');
      await this.#sightings.sight({ ...brief, via: 'poll' });
    }
    this.kick('ids');
  }

  #core({ back, slept }) {
    const { hub } = this.#session;
    return {
      following: () => this.#sightings.following(),
      event: (requestId, event) => this.#sightings.streamed(requestId, event),
      sighting: (sighting) => this.#sightings.sight(sighting),
      missing: (ids) => this.#missing(ids),
      channel: (to, why) => hub.send({ type: 'channel', to, why }),
      back: (after) => {
        this.#session.recovered(null, 'reconnected', after, 'the backend is reached again');
        back();
      },
      blocked: (status) => hub.send({ type: 'blocked', status }),
      slept,
      visible,
    };
  }

  async #missing(ids) {
    const gone = await this.#sightings.missing(ids);
    for (const record of gone) this.#gone(record);
    if (gone.length === ids.length) return;
    clearTimeout(this.#asking); // what is missing is asked for once more, also where a stream goes on without it
    this.#asking = setTimeout(() => this.#look(), ASK_AGAIN);
  }

  async #lookAtAll() {
    const ids = (await this.#sightings.following()).map(({ request_id }) => request_id);
    try {
      for await (const { tasks, missing } of statuses(this.#session.http, ids, { probe: LOOK })) {
        for (const brief of tasks) await this.#sightings.sight({ ...brief, via: 'poll' });
        if (missing.length) await this.#missing(missing);
      }
      return true;
    } catch (error) {
      return error instanceof Refused; // what to do about it, the ladder knows
    }
  }
}
