"""Owners by Firebase ID tokens, verified by firebase-admin itself against keys that are made here: no network."""

import base64
import json
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks
from flask_bgtasks.auth.firebase import FirebaseOwner
from flask_bgtasks.firebase.features import CLOCK_SKEW
from tests.backends.firebase import needs

firebase_admin = pytest.importorskip("firebase_admin")

pytestmark = pytest.mark.slow


class Google:
    """The keys that sign ID tokens, and the server that publishes their certificates, as Google's does."""

    def __init__(self):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "tests")])
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(self.key, hashes.SHA256())
        )
        certificates = json.dumps({"kid-1": certificate.public_bytes(serialization.Encoding.PEM).decode()}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(certificates)))
                self.end_headers()
                self.wfile.write(certificates)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/certs"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, project, uid="ada", **claims):
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        now = int(time.time())
        body = {
            "iss": f"https://securetoken.google.com/{project}",
            "aud": project,
            "sub": uid,
            "iat": now - 10,
            "exp": now + 3600,
            "auth_time": now - 10,
            **claims,
        }
        signed = f"{_part({'alg': 'RS256', 'typ': 'JWT', 'kid': 'kid-1'})}.{_part(body)}"
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def google():
    made = Google()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def project():
    return f"demo-{uuid.uuid4().hex[:8]}"


@pytest.fixture(params=["plugin", "loader"])
def client(request, google, project, monkeypatch):
    from firebase_admin import _token_gen

    monkeypatch.setattr(_token_gen, "ID_TOKEN_CERT_URI", google.url)
    app, bgtasks, owner = Flask("app"), BackgroundTasks(), FirebaseOwner(project=project)
    if request.param == "plugin":
        bgtasks.register(owner)
    else:
        bgtasks.owner_loader(owner)
    bgtasks.init_app(app, store="memory://", runner="inline")

    @app.post("/process")
    @bgtasks.background
    def process():
        return {"done": True}

    yield app.test_client()
    app.extensions["bgtasks"].close(grace=1)
    firebase_admin.delete_app(owner._firebase())


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_a_task_belongs_to_the_tokens_user_and_to_nobody_else(client, google, project):
    ada, eve = bearer(google.token(project)), bearer(google.token(project, "eve"))
    request_id = client.post("/process", headers=ada).get_json()["request_id"]

    assert client.get(f"/tasks/{request_id}", headers=ada).get_json()["owner_uid"] == "ada"
    assert client.get(f"/tasks/{request_id}", headers=eve).status_code == 404
    assert client.get(f"/tasks/{request_id}").status_code == 404


def test_a_request_without_a_token_is_nobodys(client):
    assert client.post("/process").status_code == 202
    assert client.post("/process", headers={"Authorization": "Basic YTpi"}).status_code == 202


@needs(CLOCK_SKEW)
def test_a_token_of_a_clock_that_is_a_little_ahead_is_good(client, google, project):
    soon = int(time.time()) + 3

    assert client.post("/process", headers=bearer(google.token(project, iat=soon))).status_code == 202


BAD = {
    "expired": lambda google, project: google.token(project, exp=int(time.time()) - 60),
    "of another project": lambda google, project: google.token("another"),
    "signed by someone else": lambda google, project: Google().token(project),
    "changed": lambda google, project: google.token(project).replace(".", ".e30", 1),
    "no token": lambda google, project: "nonsense",
    "for nobody": lambda google, project: google.token(project, ""),
}


@pytest.mark.parametrize("what", BAD)
def test_a_token_that_is_not_good_is_answered_401_and_nothing_is_stored(client, google, project, what):
    response = client.post("/process", headers=bearer(BAD[what](google, project)))

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert "invalid_token" in response.headers["WWW-Authenticate"]
    assert client.application.extensions["bgtasks"].store.stats().by_status == {}


def test_an_expired_token_is_said_to_be(client, google, project):
    response = client.post("/process", headers=bearer(google.token(project, exp=int(time.time()) - 60)))

    assert "expired" in response.text


def test_while_the_keys_cannot_be_had_it_is_503(client, google, project, monkeypatch):
    from firebase_admin import _token_gen

    monkeypatch.setattr(_token_gen, "ID_TOKEN_CERT_URI", "http://127.0.0.1:9/certs")
    response = client.post("/process", headers=bearer(google.token(project)))

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"


class Accounts:
    """Firebase's user service, as far as a revocation check asks it: one user."""

    def __init__(self):
        self.user = {"localId": "ada", "validSince": "0", "disabled": False}
        accounts = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                body = json.dumps({"users": [accounts.user]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def checked(google, project, monkeypatch):
    """A client of an app that asks whether tokens were revoked, and the service that knows."""
    from firebase_admin import _token_gen, auth, credentials
    from google.auth.credentials import Credentials

    class Static(Credentials):
        def refresh(self, request):
            self.token = "server"

    class Server(credentials.Base):
        def get_credential(self):
            return Static()

    monkeypatch.setattr(_token_gen, "ID_TOKEN_CERT_URI", google.url)
    accounts = Accounts()
    made = firebase_admin.initialize_app(Server(), {"projectId": project}, name=f"flask-bgtasks-{project}")
    manager = auth._get_client(made)._user_manager
    manager.base_url = f"http://127.0.0.1:{accounts.server.server_port}/v1/projects/{project}"
    app, bgtasks = Flask("app"), BackgroundTasks()
    bgtasks.register(FirebaseOwner(project=project, check_revoked=True))
    bgtasks.init_app(app, store="memory://", runner="inline")

    @app.post("/process")
    @bgtasks.background
    def process():
        return {"done": True}

    yield app.test_client(), accounts
    app.extensions["bgtasks"].close(grace=1)
    firebase_admin.delete_app(made)
    accounts.server.shutdown()
    accounts.server.server_close()


@pytest.mark.parametrize(
    ("user", "status", "reason"),
    [
        ({}, 202, ""),
        ({"validSince": "99999999999"}, 401, "revoked"),
        ({"disabled": True}, 401, "user disabled"),
    ],
)
def test_a_token_that_was_revoked_is_refused_where_that_is_asked(checked, google, project, user, status, reason):
    client, accounts = checked
    accounts.user |= user

    response = client.post("/process", headers=bearer(google.token(project)))

    assert response.status_code == status
    assert reason in response.text
