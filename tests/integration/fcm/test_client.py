"""How FCM's client reaches Google: past what the environment says, without asking it for each message."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_bgtasks.errors import RetryLater
from tests.support.waiting import PATIENCE

pytest.importorskip("firebase_admin")

from flask_bgtasks.sinks.fcm import client as fcm_client
from flask_bgtasks.sinks.fcm.messages import Push, PushAddress


@pytest.fixture
def client():
    made = fcm_client.FcmClient(project="demo-client", credentials=fcm_client._stand_in_credentials(), source="a test")
    yield made
    made.close()


@pytest.fixture
def proxy(monkeypatch):
    """A listening socket that the environment names as the proxy for everything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listening.getsockname()[1]}")
        yield listening


def test_google_is_reached_through_the_proxy_that_the_environment_names(client, proxy):
    def refuse():
        connection, _ = proxy.accept()
        with connection:
            asked = connection.recv(4096)
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        return asked

    push = Push(PushAddress("fcm_token", "APA91b" * 20, "device"), title="Ready", body="")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(refuse)
        with pytest.raises(RetryLater):
            client.send(push)

    assert asked.result(PATIENCE).startswith(b"CONNECT fcm.googleapis.com:443 ")


def test_a_netrc_file_does_not_replace_the_access_token(client, tmp_path, monkeypatch):
    from firebase_admin import messaging
    from requests import Request

    netrc = tmp_path / "netrc"
    netrc.write_text("machine fcm.googleapis.com login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    session = messaging._get_messaging_service(client._firebase())._client.session
    authorized = Request("POST", "https://fcm.googleapis.com/", headers={"Authorization": "Bearer token"})

    assert session.prepare_request(authorized).headers["Authorization"] == "Bearer token"
