"""Something else stands where the id of a task is expected: it gets into no address, and into nobody's way."""

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow]

POISON = ",".join(f"x{number}" for number in range(120))
NONE = ["../sample?x=", POISON, "..", "a/b", "%2e%2e%2fadmin"]

KEEP = """(ids) => new Promise((resolve, reject) => {
  const opening = indexedDB.open('bgtasks:/tasks', 1);
  opening.onsuccess = () => {
    const writing = opening.result.transaction('records', 'readwrite');
    for (const id of ids) {
      writing.objectStore('records').put({ key: `id:${id}`, request_id: id, owner: null, state: 'following', seq: 0,
        attempt: 0, cursor: 0, settled_seq: 0, provisional: null, created_at: Date.now(), changed_at: Date.now() });
    }
    writing.oncomplete = () => { opening.result.close(); resolve(); };
  };
  opening.onerror = () => reject(opening.error);
})"""
COUNT = """() => new Promise((resolve) => {
  indexedDB.open('bgtasks:/tasks', 1).onsuccess = ({ target: { result: database } }) => {
    database.transaction('records').objectStore('records').count().onsuccess = ({ target: { result } }) => {
      database.close();
      resolve(result);
    };
  };
})"""
REFUSALS = """(ids) => Promise.all(ids.flatMap((id) => [
  () => client.follow(id), () => client.cancel(id), () => client.retry(id),
  () => client.follow({ key: 'k', request_id: id }),
]).map(async (call) => { try { await call(); return 'done'; } catch (error) { return error.name; } }))"""


def asked(page):
    """What a page asks its server for, from now on."""
    found = []
    page.on("request", lambda request: found.append(request.url))
    return found


def test_calls_with_something_else_are_refused_and_ask_for_nothing(network, user):
    page = user.visit(network)
    requests = asked(page.page)

    refusals = page.page.evaluate(REFUSALS, NONE)

    assert set(refusals) == {"InvalidRequestId"}
    assert page.page.evaluate("client.handlePush({ request_id: '../x', status: 'completed', seq: '9' })") == "ignored"
    assert requests == []
    assert page.page.evaluate("client.records()") == []


def test_a_record_that_an_earlier_version_kept_poisons_no_poll_and_goes(site, network, user, gate):
    site.finish(gate)
    page = user.visit(network)
    page.page.evaluate(KEEP, NONE)
    page.page.close()
    page = user.visit(network)
    requests = asked(page.page)

    page.submit(gate=gate)

    page.sees_outcome()
    page.has_nothing_to_do()
    assert not [url for url in requests if "x0" in url or "sample" in url]
    assert len(page.page.evaluate("client.records()")) == 1
    assert page.page.evaluate(COUNT) == 1


def test_another_tab_that_says_something_else_is_not_heard(site, network, user, gate):
    page, other = user.visit(network), user.visit(network)
    page.submit(gate=gate)
    page.accepted()
    page.sees_channel("stream")

    other.page.evaluate(
        """(ids) => { const channel = new BroadcastChannel('bgtasks:/tasks');
        for (const requestId of ids) {
          channel.postMessage({ type: 'event', requestId, event: null });
          channel.postMessage({ type: 'sighting', sighting: { request_id: requestId, status: 'completed' } });
        }
        channel.postMessage(null); channel.close(); }""",
        NONE,
    )

    site.finish(gate)
    page.sees_outcome()
