"""Credentials of the FCM sink, and the private parts of the SDK that it relies on."""

import json
import logging
import threading
import warnings

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks
from flask_bgtasks.core.devices import FCM_TOKEN
from tests.support.sinks.fcm_studio import TOKEN

firebase_admin = pytest.importorskip("firebase_admin")


def key_file(folder, token_uri):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = folder / "key.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "studio-of-the-key",
                "private_key_id": "1",
                "private_key": pem,
                "client_email": "studio@example.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": token_uri,
            }
        )
    )
    return path


def test_a_service_accounts_key_sends_and_one_that_is_refused_loses_nothing(tmp_path, fcm, caplog):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from flask_bgtasks.sinks.fcm.client import FcmClient
    from flask_bgtasks.sinks.fcm.messages import Push, PushAddress

    class Tokens(BaseHTTPRequestHandler):
        refused = True
        status = 400

        def log_message(self, *args):
            """Be quiet."""

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            code = type(self).status if type(self).refused else 200
            answer = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            body = json.dumps(answer if code != 200 else {"access_token": "ya29.x", "expires_in": 3600}).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        path = key_file(tmp_path, f"http://127.0.0.1:{server.server_address[1]}/token")
        from google.oauth2 import service_account

        from flask_bgtasks import RetryLater
        from flask_bgtasks.firebase.credentials import SCOPES

        made = service_account.Credentials.from_service_account_file(str(path), scopes=SCOPES)
        client = FcmClient(project="studio-of-the-key", credentials=made, source="a key", endpoint=fcm.url)
        push = Push(PushAddress(FCM_TOKEN, TOKEN, "1"), title="Ready", body="")
        with pytest.raises(RetryLater, match="make a new key"):
            client.send(push)
        assert fcm.messages == []
        assert "make a new key" in caplog.text
        caplog.clear()

        Tokens.status = 503
        with pytest.raises(RetryLater, match="token server"):
            client.send(push)
        assert "make a new key" not in caplog.text

        Tokens.refused = False
        client.send(push)
        client.close()
        assert fcm.counts() == {TOKEN: 1}
    finally:
        server.shutdown()
        server.server_close()


def test_without_credentials_the_sink_says_at_start_what_is_wanted(tmp_path, monkeypatch):
    from flask_bgtasks import ConfigurationError

    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "FIRESTORE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")

    with pytest.raises(ConfigurationError, match="FCM: there are no credentials.*BGTASKS_FIREBASE_CREDENTIALS"):
        BackgroundTasks(Flask("none", root_path=str(tmp_path), instance_path=str(tmp_path)), sinks=["fcm"])


def test_the_developers_own_firebase_app_is_left_as_it_is(studio, fcm):
    from firebase_admin import messaging

    own = firebase_admin.initialize_app(
        options={"projectId": "own"}, credential=_anonymous(), name="the developer's own"
    )
    try:
        studio.register(TOKEN)
        studio.run()
        studio.settled()

        service = messaging._get_messaging_service(own)
        assert service._fcm_url == "https://fcm.googleapis.com/v1/projects/own/messages:send"
        assert service._client.session.get_adapter(service._fcm_url).max_retries.total != 0
    finally:
        firebase_admin.delete_app(own)


def _anonymous():
    from firebase_admin import credentials
    from google.auth.credentials import AnonymousCredentials

    class Anonymous(credentials.Base):
        def get_credential(self):
            return AnonymousCredentials()

    return Anonymous()


def test_an_address_that_the_sdk_calls_deprecated_warns_nobody():
    from firebase_admin import messaging

    from flask_bgtasks.sinks.fcm.messages import Push, PushAddress
    from flask_bgtasks.sinks.fcm.sdk_message import sdk_message

    filters = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        made = sdk_message(Push(PushAddress(FCM_TOKEN, TOKEN, "1"), title="Ready"))
        assert warnings.filters == before
    assert warnings.filters == filters
    assert json.loads(str(made))["token"] == TOKEN
    if hasattr(messaging.Message(), "fid"):  # since firebase-admin 7.5; before, there is nothing to avoid
        with pytest.warns(DeprecationWarning, match="token"):
            messaging.Message(token=TOKEN)


def test_the_private_parts_of_the_sdk_are_where_we_look_for_them(studio, caplog):
    client = studio.state.plugins.get("fcm")._client
    with caplog.at_level(logging.WARNING):
        app = client._firebase()

    from firebase_admin import messaging

    service = messaging._get_messaging_service(app)
    assert caplog.text == ""
    assert service._client.session.get_adapter("https://fcm.googleapis.com/v1").max_retries.total == 0
