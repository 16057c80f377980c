"""The modes in which every app of this folder is tested; see README.md."""

import itertools

import pytest

from tests.retrofit.harness import Mode, Retrofitted


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "only_in_the_request(reason, modes=('wait', 'respond-async')): what this test says cannot hold where the view "
        "runs after the request",
    )


@pytest.fixture(params=Mode, ids=lambda mode: mode.value)
def mode(request):
    """How the app is wrapped, and what each request prefers."""
    only = request.node.get_closest_marker("only_in_the_request")
    if only is not None and request.param.value in only.kwargs.get("modes", ("wait", "respond-async")):
        request.applymarker(pytest.mark.xfail(reason=only.args[0], strict=True))
    return request.param


@pytest.fixture
def make_app(request, mode, tmp_path):
    """Makes the module's app, with configuration of the test's own, in the mode of this test."""
    made = []
    numbers = itertools.count(1)

    def make(create_app=None, *, endpoints=None, **config):
        folder = tmp_path / f"app{next(numbers)}"
        folder.mkdir()
        create_app = create_app or request.module.create_app
        app = create_app({"TESTING": True, "SECRET_KEY": "for tests", "DATA_FOLDER": str(folder), **config})
        retrofitted = Retrofitted(app, mode, endpoints or request.module.ENDPOINTS)
        made.append(retrofitted)
        if mode is not Mode.UNWRAPPED and hasattr(request.module, "retrofit"):
            request.module.retrofit(app, retrofitted.extension)
        app.retrofitted = retrofitted
        return app

    yield make
    for retrofitted in made:
        retrofitted.close()


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def allowed(mode):
    """Checks that a request was let through to the view; gives the view's answer."""

    def check(response, status=200):
        assert response.status_code == status, response.get_data(as_text=True)
        if mode is not Mode.UNWRAPPED:
            assert response.task_id is not None, "this answer was given without a task"
            assert response.newly_stored == 1
        return response

    return check


@pytest.fixture
def refused():
    """Checks that a request was refused before anything was stored; gives the answer."""

    def check(response, status):
        assert response.status_code == status, response.get_data(as_text=True)
        assert response.task_id is None, "refused by a run"
        assert response.newly_stored == 0
        return response

    return check


@pytest.fixture
def allowed_in():
    """As `allowed`, for tests that choose their modes themselves."""

    def check(mode, response, status=200):
        assert response.status_code == status, response.get_data(as_text=True)
        assert response.task_id is not None
        assert response.newly_stored == 1
        return response

    return check
