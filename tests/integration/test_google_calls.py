"""Whose calls are taken: tokens that Google has signed for the service account. Its certificates are fetched once."""

import base64
import hashlib
import hmac
import json
import threading
import time

import pytest

pytest.importorskip("google.cloud.tasks_v2")

from flask_bgtasks.auth import google_calls
from flask_bgtasks.auth.google_calls import CallRefused, CallVerifier, CertificatesMissing
from tests.backends.cloud_tasks import ACCOUNT, Certificates, claims, key
from tests.support.problems import problem
from tests.support.waiting import PATIENCE

AUDIENCE = "https://app.example"


@pytest.fixture
def certificates():
    served = Certificates()
    yield served
    served.close()


@pytest.fixture
def verifier(certificates):
    return CallVerifier(service_account=ACCOUNT, audience=AUDIENCE, certs_url=certificates.url)


def unsigned(header, said, sign=lambda text: b""):
    """A token by hand."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, said)]
    text = b".".join(parts)
    return (text + b"." + base64.urlsafe_b64encode(sign(text)).rstrip(b"=")).decode()


def by_password(text):
    """As if the certificate, which everybody can read, were a password."""
    return hmac.new(key().certificate.encode(), text, hashlib.sha256).digest()


def good(**other):
    return key().sign(claims(AUDIENCE, **other))


NOW = int(time.time())
FORGED = key("forged")

REFUSED = {
    "missing": lambda: "",
    "no JWT": lambda: "a.b.c",
    "too long": lambda: good(filler="x" * 10_000),
    "expired": lambda: good(iat=NOW - 7200, exp=NOW - 3600),
    "not yet": lambda: good(iat=NOW + 3600, exp=NOW + 7200),
    "without an end": lambda: good(exp=None),
    "an end that is no number": lambda: good(exp="tomorrow"),
    "another audience": lambda: good(aud="https://other.example"),
    "several audiences": lambda: good(aud=[AUDIENCE, "https://other.example"]),
    "no audience": lambda: good(aud=None),
    "another issuer": lambda: good(iss="https://accounts.google.com.example"),
    "no issuer": lambda: good(iss=None),
    "another key of the same id": lambda: type(key())(key().id, FORGED.private, "").sign(claims(AUDIENCE)),
    "another key": lambda: FORGED.sign(claims(AUDIENCE)),
    "a key id that is none": lambda: unsigned({"alg": "RS256", "kid": ["key-first"]}, claims(AUDIENCE)),
    "HS256": lambda: unsigned({"alg": "HS256", "kid": "key-first"}, claims(AUDIENCE), by_password),
    "none": lambda: unsigned({"alg": "none"}, claims(AUDIENCE)),
    "ES256": lambda: unsigned({"alg": "ES256", "kid": "key-first"}, claims(AUDIENCE), lambda text: b"x" * 64),
    "claims that are a list": lambda: unsigned({"alg": "RS256", "kid": "key-first"}, [claims(AUDIENCE)]),
    "a header that is a text": lambda: unsigned("RS256", claims(AUDIENCE)),
}

NOT_ALLOWED = {
    "another account": lambda: good(email="other@demo.iam.gserviceaccount.com"),
    "no account": lambda: good(email=None),
    "an unverified address": lambda: good(email_verified=False),
    "an address that is as good as verified": lambda: good(email_verified="true"),
}


@pytest.mark.parametrize("issuer", ["https://accounts.google.com", "accounts.google.com"])
def test_a_token_of_the_service_account_is_taken(verifier, issuer):
    verifier.verify(good(iss=issuer))


def test_a_token_is_taken_though_the_clocks_differ_a_little(verifier):
    now = int(time.time())

    verifier.verify(good(iat=now + 5, exp=now + 3600))


@pytest.mark.parametrize("token", REFUSED.values(), ids=REFUSED)
def test_a_token_that_is_not_valid_is_refused(verifier, token):
    with pytest.raises(CallRefused) as refused:
        verifier.verify(token())

    assert not refused.value.known


@pytest.mark.parametrize("token", NOT_ALLOWED.values(), ids=NOT_ALLOWED)
def test_a_token_of_somebody_else_is_refused(verifier, token):
    with pytest.raises(CallRefused) as refused:
        verifier.verify(token())

    assert refused.value.known


def test_certificates_are_fetched_once(verifier, certificates):
    for _ in range(20):
        verifier.verify(good())

    assert certificates.asked == 1


def test_many_first_calls_at_once_fetch_once_and_all_are_taken(verifier, certificates):
    taken, token = [], good()
    barrier = threading.Barrier(8)

    def verify():
        barrier.wait(PATIENCE)
        verifier.verify(token)
        taken.append(True)

    threads = [threading.Thread(target=verify) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert (len(taken), certificates.asked) == (8, 1)


def test_a_flood_of_bad_tokens_fetches_no_certificates_each_time(verifier, certificates):
    header = {"alg": "RS256"}
    for number in range(200):
        for token in (
            unsigned({**header, "kid": f"key-{number}"}, claims(AUDIENCE), lambda text: b"x" * 256),
            unsigned(header, claims("https://other.example")),
        ):
            with pytest.raises(CallRefused):
                verifier.verify(token)

    assert certificates.asked == 1


def test_what_is_not_for_us_is_refused_without_a_certificate(verifier, certificates):
    with pytest.raises(CallRefused):
        verifier.verify(good(aud="https://other.example"))

    assert certificates.asked == 0


def test_a_new_key_is_fetched_when_it_is_met(verifier, certificates, monkeypatch):
    monkeypatch.setattr(google_calls, "MIN_PAUSE_SECONDS", 0)
    verifier.verify(good())
    certificates.keys.append(key("second"))

    verifier.verify(key("second").sign(claims(AUDIENCE)))

    assert certificates.asked == 2


def test_old_certificates_hold_while_there_are_no_newer_ones(verifier, certificates, monkeypatch, caplog):
    verifier.verify(good())
    certificates.status = 500
    monkeypatch.setattr(verifier._certificates, "_stale_at", 0.0)
    monkeypatch.setattr(verifier._certificates, "_ask_at", 0.0)

    verifier.verify(good())
    verifier.verify(good())

    assert certificates.asked == 2  # and not again at once
    assert "gives no certificates: ConnectionError: status 500" in caplog.text


def test_without_certificates_nobody_is_taken_and_the_address_is_asked_now_and_then(
    verifier, certificates, monkeypatch
):
    certificates.status = 404
    for _ in range(5):
        with pytest.raises(CertificatesMissing):
            verifier.verify(good())
    assert certificates.asked == 1
    certificates.status = 200
    monkeypatch.setattr(verifier._certificates, "_ask_at", 0.0)

    verifier.verify(good())


def test_an_answer_that_is_no_certificates_is_none(verifier, certificates):
    certificates.keys = []

    with pytest.raises(CertificatesMissing):
        verifier.verify(good())


class TestOverHttp:
    """How an app answers."""

    @pytest.fixture
    def app(self, make_app, cloud_tasks):
        return make_app(sinks=[], run_url=AUDIENCE, **cloud_tasks.settings)

    @pytest.mark.parametrize("what", ["sweep", "a6f0b7de-5a8a-4b52-9a5a-0d5a3c3d2f11"])
    @pytest.mark.parametrize("header", [None, "Basic dGFza3M6dGFza3M=", "Bearer", "Bearer a.b.c"])
    def test_a_call_without_a_valid_token_is_401(self, app, what, header):
        answer = app.test_client().post(f"/tasks/run/{what}", headers={"Authorization": header} if header else {})

        document = problem(answer, "caller-not-verified")
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert "audience" not in document["detail"]

    def test_a_call_in_another_name_is_403(self, app):
        token = good(email="other@demo.iam.gserviceaccount.com")

        answer = app.test_client().post("/tasks/run/sweep", headers={"Authorization": f"Bearer {token}"})

        assert ACCOUNT not in problem(answer, "caller-not-allowed")["detail"]

    def test_the_log_says_what_is_wrong_and_not_the_token(self, app, caplog):
        token = good(aud="https://other.example")

        problem(
            app.test_client().post("/tasks/run/sweep", headers={"Authorization": f"Bearer {token}"}),
            "caller-not-verified",
        )

        assert f"the audience of its token is not '{AUDIENCE}'" in caplog.text
        assert token[:20] not in caplog.text
        assert "other.example" not in caplog.text

    def test_a_call_that_cannot_be_verified_now_comes_again(self, app, cloud_tasks):
        cloud_tasks.certificates.status = 500

        answer = app.test_client().post("/tasks/run/sweep", headers={"Authorization": f"bearer {good()}"})

        problem(answer, "not-ready")
        assert answer.headers["Retry-After"] == "5"
        cloud_tasks.certificates.status = 200
