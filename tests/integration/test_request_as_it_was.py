"""A view finds the request as it was: on its own thread, after its body was captured, and in a run elsewhere."""

import io
import json

import pytest
from flask import Blueprint, Flask, jsonify, request, session
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_bgtasks import BackgroundTasks
from flask_bgtasks.capture import kept_request


def look():
    """What code in a view may ask of its request."""
    environ = request.environ
    rule = request.url_rule
    return {
        "access_route": list(request.access_route),
        "args": tried(lambda: request.args.to_dict(flat=False)),
        "base_url": request.base_url,
        "blueprint": request.blueprint,
        "blueprints": request.blueprints,
        "content_length": len(environ["wsgi.input"].getvalue()),
        "content_type": request.content_type,
        "endpoint": request.endpoint,
        "environ": {name: environ.get(name) for name in ENVIRON},
        "files": [
            (name, file.filename, file.content_type, file.read().decode("latin-1"))
            for name, file in request.files.items(multi=True)
        ],
        "form": request.form.to_dict(flat=False),
        "full_path": tried(lambda: request.full_path),
        "headers": {name: request.headers.get(name) for name in HEADERS},
        "host": request.host,
        "host_url": request.host_url,
        "if_match": request.if_match.to_header(),
        "is_json": request.is_json,
        "is_secure": request.is_secure,
        "json": request.get_json(silent=True),
        "languages": str(request.accept_languages),
        "method": request.method,
        "mimetype": request.mimetype,
        "origin": request.origin,
        "path": request.path,
        "proxied": environ.get("werkzeug.proxy_fix.orig"),
        "query_string": request.query_string.decode("latin-1"),
        "referrer": request.referrer,
        "remote_addr": request.remote_addr,
        "remote_user": request.remote_user,
        "root_path": request.root_path,
        "rule": rule and rule.rule,
        "scheme": request.scheme,
        "server": list(request.server or ()),
        "session": dict(session),
        "url": tried(lambda: request.url),
        "url_root": request.url_root,
        "user_agent": request.user_agent.string,
        "view_args": request.view_args,
    }


def tried(ask):
    try:
        return ask()
    except UnicodeDecodeError:  # Werkzeug's, where the query is no UTF-8
        return "undecodable"


ENVIRON = (
    "AUTH_TYPE",
    "HTTP_HOST",
    "PATH_INFO",
    "QUERY_STRING",
    "RAW_URI",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "REMOTE_USER",
    "REQUEST_METHOD",
    "REQUEST_URI",
    "SCRIPT_NAME",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SSL_CLIENT_S_DN",
    "wsgi.url_scheme",
)

HEADERS = (
    "Accept",
    "Baggage",
    "DNT",
    "Forwarded",
    "HX-Target",
    "If-Match",
    "If-None-Match",
    "Idempotency-Key",
    "Sec-CH-UA-Platform",
    "Sec-Fetch-Site",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "X-Requested-With",
)

PROXIED = {
    "X-Forwarded-For": "203.0.113.9, 10.0.0.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "studio.example.com",
    "X-Forwarded-Port": "8443",
    "X-Forwarded-Prefix": "/studio",
}

CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "CONTENT_LENGTH": None}

UPLOAD = (
    b'--a b\r\nContent-Disposition: form-data; name="title"\r\n\r\n\xc3\xbc\r\n'
    b'--a b\r\nContent-Disposition: form-data; name="file"; filename="bild.png"\r\nContent-Type: image/png\r\n\r\n'
    b"\xff\x00\r\n--a b--\r\n"
)

REQUESTS = {
    "a form": {"data": {"title": ["a", "b"], "text": "Übermut"}},
    "JSON": {"json": {"input_text": "🙂", "n": [1, None]}},
    "JSON of another encoding": {"data": '"ü"'.encode("utf-16"), "content_type": "application/json; charset=utf-16"},
    "uploads": {"data": UPLOAD, "content_type": 'multipart/form-data; boundary="a b"'},
    "bytes": {"data": bytes(range(256)), "content_type": "application/octet-stream"},
    "no body": {},
    "a chunked body": {"data": b"x" * 70_000, "content_type": "text/plain", "environ_overrides": CHUNKED},
    "a chunked form": {"data": {"a": "1"}, "environ_overrides": CHUNKED},
    "an IPv6 host": {"base_url": "http://[2001:db8::1]:5000"},
    "a host without a port": {"base_url": "http://studio.example.com"},
    "a secure host with a port": {"base_url": "https://studio.example.com:8443"},
    "a script name": {"base_url": "https://example.com/studio"},
    "a script name that is Unicode": {"base_url": "https://example.com/st%C3%BCdio"},
    "a proxy": {"headers": PROXIED, "environ_base": {"REMOTE_ADDR": "10.0.0.2"}},
    "a proxy that is not trusted": {"headers": {"X-Real-IP": "1.2.3.4", "Forwarded": "for=1.2.3.4"}},
    "a Unicode path": {"path": "/lessons/%C3%BC%20a%2Fb/process"},
    "a path that is no UTF-8": {"path": "/lessons/%FF%FE/process"},
    "a query that is no UTF-8": {"query_string": "q=%FF&q=%C3%BC&empty=&+"},
    "raw bytes in the query": {"environ_overrides": {"QUERY_STRING": "q=\xff\xc3\xbc"}},
    "a client's address and port": {"environ_overrides": {"REMOTE_ADDR": "2001:db8::9", "REMOTE_PORT": 4711}},
    "a user of the server": {
        "environ_overrides": {"REMOTE_USER": "ann", "AUTH_TYPE": "Basic", "SSL_CLIENT_S_DN": "CN=ann"}
    },
    "the server's own URI": {"environ_overrides": {"RAW_URI": "/process?%ff", "REQUEST_URI": "/process?%ff"}},
    "an old protocol without a host": {"environ_overrides": {"SERVER_PROTOCOL": "HTTP/1.0", "HTTP_HOST": None}},
    "another port of the server": {"environ_overrides": {"SERVER_NAME": "10.1.1.1", "SERVER_PORT": "8081"}},
    "PUT with conditions": {"method": "PUT", "headers": {"If-Match": '"1", W/"2"', "If-None-Match": "*"}},
    "PATCH": {"method": "PATCH", "json": [1]},
    "DELETE": {"method": "DELETE"},
    "headers of a page": {
        "headers": {
            "Accept": "text/html;q=0.9",
            "Accept-Language": "de, en;q=0.5",
            "Baggage": "a=1",
            "DNT": "1",
            "HX-Target": "result",
            "Idempotency-Key": "k",
            "Origin": "https://example.com",
            "Referer": "https://example.com/page?x=1",
            "Sec-CH-UA-Platform": '"Linux"',
            "Sec-Fetch-Site": "same-origin",
            "User-Agent": "Mozilla/5.0",
            "X-Requested-With": "XMLHttpRequest",
        }
    },
}


def environ_of(*, environ_overrides=None, path="/process", **kwargs):
    environ = EnvironBuilder(path=path, method=kwargs.pop("method", "POST"), **kwargs).get_environ()
    for name, value in (environ_overrides or {}).items():
        environ.pop(name, None)
        if value is not None:
            environ[name] = value
    return environ


METHODS = ["POST", "PUT", "PATCH", "DELETE"]


def app_with(view, tmp_path):
    app = Flask("studio", instance_path=str(tmp_path))
    app.secret_key = "x"
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=2, x_proto=1, x_host=1, x_port=1, x_prefix=1)
    lessons = Blueprint("lessons", __name__)
    app.add_url_rule("/process", "process", view, methods=METHODS)
    lessons.add_url_rule("/lessons/<path:name>/process", "process", view, methods=METHODS)
    app.register_blueprint(lessons)
    return app


def told(app, given):
    body, status, _ = run_wsgi_app(app, environ_of(**given), buffered=True)
    assert status.startswith(("200", "202")), (status, b"".join(body))
    return json.loads(b"".join(body))


@pytest.mark.parametrize("given", REQUESTS.values(), ids=REQUESTS.keys())
def test_the_request_of_a_run_is_the_one_that_was_sent(tmp_path, given):
    seen = []

    def view():
        seen.append(json.loads(json.dumps(look())))
        return jsonify(seen[-1])

    def reread(**_):
        request.environ["wsgi.input"] = io.BytesIO(request.get_data())  # so that `look` can measure it
        return view()

    plain = told(app_with(reread, tmp_path), given)
    bgtasks = BackgroundTasks()

    @bgtasks.background(name="process", respond="async")
    def elsewhere(**_):
        return view()

    app = app_with(elsewhere, tmp_path)
    bgtasks.init_app(app, store="memory://", runner="inline")
    seen.clear()
    told(app, given)
    here = BackgroundTasks()

    @here.background(name="process", respond="hold")
    def on_this_thread(**_):
        return view()

    other = app_with(on_this_thread, tmp_path)
    here.init_app(other, store="memory://", runner="inline")
    own = told(other, given)

    assert own == plain
    assert seen[0] == plain


@pytest.mark.parametrize("respond", ["async", "hold"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "read",
    [
        lambda: request.environ["wsgi.input"].read(),
        lambda: request.environ["wsgi.input"].read(int(request.environ["CONTENT_LENGTH"])),
        lambda: b"".join(request.environ["wsgi.input"]),
        lambda: request.stream.read(),
        lambda: request.stream.readline() + request.stream.read(),
        lambda: request.get_data(),
    ],
    ids=["input", "input by its length", "input by lines", "stream", "stream by lines", "data"],
)
def test_a_view_that_reads_the_body_by_itself_finds_all_of_it(tmp_path, respond, chunked, read):
    bgtasks, found = BackgroundTasks(), []

    @bgtasks.background(respond=respond)
    def process():
        found.append(read())
        return {}

    app = app_with(process, tmp_path)
    bgtasks.init_app(app, store="memory://", runner="inline")
    body = b"one\ntwo\n" * 1000
    run_wsgi_app(app, environ_of(data=body, content_type="text/x", environ_overrides=CHUNKED if chunked else None))

    assert found == [body]


def test_a_limit_that_a_guard_has_lifted_for_the_request_is_lifted_in_the_run(tmp_path):
    bgtasks = BackgroundTasks()

    @bgtasks.background
    def process():
        return {"length": len(request.form["text"]), "limit": request.max_content_length}

    app = app_with(process, tmp_path)
    app.config.update(MAX_CONTENT_LENGTH=10, MAX_FORM_MEMORY_SIZE=10)

    @app.before_request
    def lift():
        request.max_content_length = request.max_form_memory_size = 10_000

    bgtasks.init_app(app, store="memory://", runner="inline")
    client = app.test_client()
    accepted = client.post("/process", data={"text": "x" * 500})

    assert client.get(accepted.location + "/result").json == {"length": 500, "limit": 10_000}


def test_a_cached_answer_is_no_result_of_a_view_that_reads(tmp_path):
    """A 304 speaks to one client's cache."""
    bgtasks = BackgroundTasks()

    @bgtasks.background
    def render():
        response = jsonify(page=1)
        response.set_etag("1")
        return response.make_conditional(request)

    app = Flask("studio", instance_path=str(tmp_path))
    app.add_url_rule("/render", view_func=render)
    bgtasks.init_app(app, store="memory://", runner="inline")
    client = app.test_client()
    accepted = client.get("/render", headers={"If-None-Match": '"1"'})

    assert client.get(accepted.location + "/result").json == {"page": 1}


def test_what_an_earlier_version_has_stored_still_runs():
    old = {
        "method": "POST",
        "scheme": "https",
        "host": "[::1]:8443",
        "root_path": "/studio",
        "path": "/process/ü",
        "query": "a=1",
        "headers": [["Content-Type", "text/plain"]],
        "text": "body",
    }

    from werkzeug.wrappers import Request

    again = Request(kept_request.environ(old))

    assert again.url == "https://[::1]:8443/studio/process/ü?a=1"
    assert again.get_data() == b"body"
