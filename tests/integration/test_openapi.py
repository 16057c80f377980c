"""The description at /tasks/openapi.json, held against the running blueprint by schemathesis."""

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.errors import Unsatisfiable

from flask_bgtasks.http.blueprint import FILES
from tests.support.http_app import PATIENCE, make

schemathesis = pytest.importorskip("schemathesis")  # not installed for the quick run on the other Pythons
GenerationMode = pytest.importorskip("schemathesis.generation").GenerationMode

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    made = make("memory://", tmp_path_factory.mktemp("openapi"), max_wait=0.05, stream_seconds=1)
    yield made
    made.state.close(grace=PATIENCE)


@pytest.fixture(scope="module")
def anns(tmp_path_factory):
    """An app in which Ann is logged in, for what belongs to a person."""
    made = make("memory://", tmp_path_factory.mktemp("anns"))
    made.bgtasks.owner_loader(lambda: "ann")
    yield made
    made.state.close(grace=PATIENCE)


@pytest.fixture(scope="module")
def known(studio):
    """Tasks in every state, so that the generated requests find some."""
    ids = [studio.done(), studio.done("/refuse/422")]
    cancelled = studio.running()
    studio.app.test_client().post(f"/tasks/{cancelled}/cancel")
    studio.open("gate")
    return [*ids, studio.finish(cancelled)]


CALLS = [
    "GET /tasks",
    "GET /tasks/stats",
    "GET /tasks/health",
    "GET /tasks/openapi.json",
    "GET /tasks/events",
    "GET /tasks/devices",
    "POST /tasks/devices",
    "DELETE /tasks/devices/{device_id}",
    "GET /tasks/preferences",
    "PUT /tasks/preferences",
    "GET /tasks/{request_id}",
    "DELETE /tasks/{request_id}",
    "GET /tasks/{request_id}/progress",
    "GET /tasks/{request_id}/events",
    "GET /tasks/{request_id}/result",
    "POST /tasks/{request_id}/cancel",
    "POST /tasks/{request_id}/retry",
    "POST /tasks/{request_id}/seen",
    "POST /tasks/{request_id}/mute",
    "DELETE /tasks/{request_id}/mute",
    "POST /tasks/{request_id}/live-activity",
    "DELETE /tasks/{request_id}/live-activity",
]

PERSONAL = [call for call in CALLS if "/devices" in call or "/preferences" in call]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("call", CALLS)
def test_the_blueprint_does_what_its_description_says(studio, known, call, mode):
    hold_against_its_description(studio, call, mode)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("call", PERSONAL)
def test_what_belongs_to_a_person_is_as_described_for_who_is_logged_in(anns, call, mode):
    hold_against_its_description(anns, call, mode)


def hold_against_its_description(studio, call, mode):
    method, path = call.split()
    operation = schemathesis.openapi.from_wsgi("/tasks/openapi.json", studio.app)[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def held_against_the_description(case):
        if call == "PUT /tasks/preferences" and mode is GenerationMode.POSITIVE:
            make_sense(case.body)
        if call == "GET /tasks" and mode is GenerationMode.POSITIVE:
            case.query.pop("cursor", None)  # a schema cannot say which ones pages have given
        case.call_and_validate()

    try:
        held_against_the_description()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # there is nothing that this call could be given wrongly


def make_sense(preferences):
    """What a schema cannot say: which time zones there are, that a span has a length, that names can be printed."""
    hours = preferences.get("quiet_hours")
    if hours:
        hours["time_zone"] = "Europe/Berlin"
        assume(hours["from"] != hours["to"])
    assume(all(name.isprintable() for name in preferences.get("muted", ())))


def test_every_call_is_held_against_the_description(studio):
    described = studio.app.test_client().get("/tasks/openapi.json").json["paths"]

    assert sorted(CALLS) == sorted(
        f"{m.upper()} {path}" for path, item in described.items() for m in item if m != "parameters"
    )


def test_the_description_names_every_route_of_the_blueprint(studio):
    described = studio.app.test_client().get("/tasks/openapi.json").json
    rules = {rule.rule for rule in studio.app.url_map.iter_rules() if rule.endpoint.startswith("bgtasks.")}
    rules -= {f"/tasks{path}" for path in FILES}

    assert described["openapi"].startswith("3.1")
    assert {rule.replace("<", "{").replace(">", "}") for rule in rules} == set(described["paths"])


@pytest.mark.parametrize("which", range(3))
def test_known_tasks_answer_as_described(studio, known, which):
    described = schemathesis.openapi.from_wsgi("/tasks/openapi.json", studio.app)
    for path in ("/tasks/{request_id}", "/tasks/{request_id}/progress", "/tasks/{request_id}/events"):
        case = described[path]["GET"].Case(path_parameters={"request_id": known[which]})
        case.call_and_validate()


@pytest.mark.parametrize(
    ("name", "fault"),
    [("poll_after_ms", "soon"), ("seq", None), ("undocumented", 1)],
)
def test_a_planted_fault_is_found(studio, known, monkeypatch, name, fault):
    from flask_bgtasks.http.responses import representation

    right = representation.brief
    monkeypatch.setattr(representation, "brief", lambda task, base: {**right(task, base), name: fault})
    described = schemathesis.openapi.from_wsgi("/tasks/openapi.json", studio.app)
    case = described["/tasks/{request_id}"]["GET"].Case(path_parameters={"request_id": studio.done()})

    with pytest.raises(schemathesis.errors.FailureGroup):
        case.call_and_validate()
