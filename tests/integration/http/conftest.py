"""An app over each store that needs no server, and a client of it."""

import pytest

from tests.support.http_app import make


@pytest.fixture
def studio_settings():
    """The extension's settings for a module's studio; a module that has any overrides this."""
    return {}


@pytest.fixture(params=["memory://", "sqlite:///tasks.sqlite3"])
def studio(request, tmp_path, studio_settings):
    made = make(request.param, tmp_path, **studio_settings)
    yield made
    made.close()


@pytest.fixture
def client(studio):
    return studio.app.test_client()
