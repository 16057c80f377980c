"""A stored answer protects as the view meant it to; what a browser would run as a page has no power over the app."""

import pytest
from flask import Response, make_response

HTML = "<script>alert(document.cookie)</script>"


@pytest.fixture
def answer(make_app, bg):
    """Gives a view's answer back as it is read at ``/result``, of a run elsewhere and of one in the request."""

    def make(respond, view):
        app = make_app(runner="inline")
        app.add_url_rule("/process", view_func=bg.background(name="process", respond=respond)(view), methods=["POST"])
        client = app.test_client()
        task = client.post("/process").headers["Task-Id"]
        return client.get(f"/tasks/{task}/result")

    return make


PROTECTIVE = {
    "Content-Security-Policy": "default-src 'self'",
    "Content-Security-Policy-Report-Only": "script-src 'none'",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-site",
    "Permissions-Policy": "camera=()",
    "Referrer-Policy": "no-referrer",
    "Reporting-Endpoints": 'default="https://example.com/r"',
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
    "Cache-Control": "no-store",
    "Content-Disposition": "attachment",
    "ETag": '"1"',
    "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
    "Link": "</style.css>; rel=preload",
}


@pytest.mark.parametrize("respond", ["async", "hold"])
def test_the_headers_by_which_a_view_protects_its_answer_are_kept(answer, respond):
    def process():
        response = make_response("<p>text</p>")
        response.headers.extend(PROTECTIVE)
        response.vary.add("Cookie")
        return response

    got = answer(respond, process)

    assert {name: got.headers.get(name) for name in PROTECTIVE} == PROTECTIVE
    assert "Cookie" in got.vary


def test_two_policies_are_both_in_force(answer):
    def process():
        response = make_response("<p>text</p>")
        for policy in ("default-src 'self'", "object-src 'none'"):
            response.headers.add("Content-Security-Policy", policy)
        return response

    got = answer("async", process)

    assert got.headers.getlist("Content-Security-Policy") == ["default-src 'self'", "object-src 'none'"]


def test_cookies_and_what_a_view_lets_everybody_cache_are_not_kept(answer):
    def process():
        response = make_response("text")
        response.set_cookie("session", "s3cret")
        response.cache_control.public = True
        response.cache_control.max_age = 3600
        response.accept_ranges = "bytes"
        return response

    got = answer("async", process)

    assert "Set-Cookie" not in got.headers
    assert "Accept-Ranges" not in got.headers
    assert got.headers["Cache-Control"] == "private, no-cache"


def test_a_private_answer_is_cached_as_long_as_its_view_says(answer):
    got = answer("async", lambda: Response("text", headers={"Cache-Control": "private, max-age=60"}))

    assert got.headers["Cache-Control"] == "private, max-age=60"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html; charset=utf-8",
        "TEXT/HTML",
        " text/html",
        "text/html, text/plain",
        "text/plain, text/html",
        "application/xhtml+xml",
        "image/svg+xml",
        "image/svg+xml; charset=utf-8",
        "text/xml",
        "application/xml",
        "application/atom+xml",
        "application/mathml+xml",
        "application/vnd.mozilla.xul+xml",
        "audio/x+xml",
        "font/x+xml; charset=utf-8",
        "video/mp4+XML",
        "text/xsl",
        "multipart/x-mixed-replace; boundary=a",
        "message/rfc822",
        "application/x-unheard-of",
        "nonsense",
        "/",
        None,
    ],
)
@pytest.mark.parametrize("code", [200, 422])
def test_what_a_browser_would_show_as_a_page_is_sandboxed(answer, content_type, code):
    def process():
        response = Response(HTML, code)
        response.headers.pop("Content-Type")
        if content_type is not None:
            response.headers["Content-Type"] = content_type
        return response

    got = answer("async", process)

    assert (got.status_code, got.text) == (code, HTML)
    (policy,) = got.headers.getlist("Content-Security-Policy")
    directives = [part.strip() for part in policy.split(";")]
    assert "sandbox" in directives  # no word after it: no script, no form, an origin of its own
    assert "default-src 'none'" in directives
    assert got.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/problem+json",
        "application/pdf",
        "application/zip",
        "application/octet-stream",
        "audio/mpeg",
        "image/png",
        "text/csv",
        "text/plain; charset=utf-8",
        "video/mp4",
        "font/woff2",
    ],
)
def test_what_a_browser_runs_nothing_of_is_not_sandboxed_but_believed(answer, content_type):
    got = answer("async", lambda: Response("{}", content_type=content_type))

    assert "Content-Security-Policy" not in got.headers
    assert got.headers["X-Content-Type-Options"] == "nosniff"


def test_an_answer_at_the_apps_own_address_has_the_policy_that_its_view_gave_it(make_app, bg):
    """Waited for, or replayed: the page is the app's own there, as it was without us."""
    app = make_app()
    app.add_url_rule("/process", view_func=bg.background(name="process")(lambda: HTML), methods=["POST"])

    waited = app.test_client().post("/process", headers={"Prefer": "wait=20"})

    assert waited.text == HTML
    assert "Content-Security-Policy" not in waited.headers
    assert waited.headers["X-Content-Type-Options"] == "nosniff"
