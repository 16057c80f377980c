"""What an older firebase-admin cannot do is said, with the version that can; the rest works with it as with any.

The tests of what is lacking run on the real thing: `make oldest` installs the oldest version that is supported.
"""

import logging

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, ConfigurationError
from flask_bgtasks.core.devices import FCM_TOKEN, FID, make_device
from flask_bgtasks.firebase.features import CLOCK_SKEW, FIDS, LIVE_ACTIVITIES
from tests.support.waiting import PATIENCE, until

firebase_admin = pytest.importorskip("firebase_admin")

FEATURES = [FIDS, LIVE_ACTIVITIES, CLOCK_SKEW]
INSTALLATION = "cXyZ0123456789abcdefGH"
TOKEN = f"eAbC0123456789abcdefGH:{'APA91b' * 20}"


def lacks(feature):
    return pytest.mark.skipif(
        feature.lacking is None, reason=f"firebase-admin older than {feature.since}: `make oldest` runs this"
    )


def version(text):
    return tuple(int(part) for part in text.split(".")[:2])


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.what)
def test_no_feature_is_missed_in_a_version_that_has_it(feature):
    """What a current version has is never skipped: neither by the library nor by its tests."""
    assert feature.found() or version(firebase_admin.__version__) < version(feature.since)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.what)
def test_what_is_lacking_names_both_versions_and_the_mend(feature):
    if feature.lacking is None:
        feature.require("a test")
        return
    with pytest.raises(ConfigurationError) as told:
        feature.require("a test")

    assert firebase_admin.__version__ in str(told.value)
    assert f"pip install -U 'firebase-admin>={feature.since}'" in str(told.value)


@pytest.fixture
def make(tmp_path, fcm):
    made = []

    def build(*sinks):
        app, bgtasks = Flask("studio", instance_path=str(tmp_path)), BackgroundTasks()

        @bgtasks.task(name="work", notify="Ready")
        def work():
            return 1

        bgtasks.init_app(app, store="memory://", sinks=list(sinks), fcm_endpoint=fcm.url, runner="inline")
        made.append(app)
        return app, work

    yield build
    for app in made:
        app.extensions["bgtasks"].close(grace=5)


@lacks(FIDS)
def test_what_is_for_an_installation_id_is_kept_as_a_dead_letter_and_a_token_is_served(make, fcm):
    app, work = make("fcm")
    state = app.extensions["bgtasks"]
    for kind, value in ((FID, INSTALLATION), (FCM_TOKEN, TOKEN)):
        state.store.save_device(make_device(kind, value, owner="anna"), max_devices=20)

    with app.app_context():
        work.submit(owner="anna").wait_until_done(timeout=PATIENCE)
    fcm.wait_for(lambda fcm: fcm.counts() == {TOKEN: 1})
    state.deliveries.wake()

    dead = until(lambda: state.store.dead_deliveries())
    assert len(dead) == 1
    assert "firebase-admin 7.7" in dead[0].error
    assert "flask bgtasks replay" in dead[0].error
    assert INSTALLATION not in dead[0].error


@lacks(FIDS)
def test_that_installation_ids_cannot_be_served_is_said_when_the_app_starts_and_by_the_doctor(make, caplog):
    with caplog.at_level(logging.WARNING, "flask_bgtasks"):
        app, _ = make("fcm")
    told = app.test_cli_runner().invoke(args=["bgtasks", "doctor"])

    assert "Firebase Installation IDs need firebase-admin 7.7" in caplog.text
    assert "registration tokens only" in told.output
    assert told.exit_code == 0
    tried = app.test_cli_runner().invoke(args=["bgtasks", "doctor", "--token", INSTALLATION])
    assert "FAIL  FCM, dry run: Firebase Installation IDs need firebase-admin 7.7" in tried.output


@lacks(LIVE_ACTIVITIES)
def test_the_sink_of_live_activities_is_refused_when_the_app_starts(make):
    with pytest.raises(ConfigurationError, match=r"'live_activity': Live Activities need firebase-admin 6\.9"):
        make("fcm", "live_activity")
