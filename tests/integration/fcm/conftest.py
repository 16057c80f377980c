"""Apps with the FCM sink: firebase-admin itself, over real HTTP, against a stand-in that answers as FCM does."""

import pytest

from tests.support.sinks.fcm_studio import FcmStudio


@pytest.fixture
def make(tmp_path, fcm, impatient):
    made = []

    def build(**settings):
        settings = {"fcm_endpoint": fcm.url, "firebase_project": "demo-studio", **settings}
        made.append(FcmStudio(tmp_path, **settings))
        return made[-1]

    yield build
    for studio in made:
        studio.state.close(grace=5)


@pytest.fixture
def studio(make):
    return make()
