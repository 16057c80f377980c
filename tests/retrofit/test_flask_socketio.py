"""Flask-SocketIO: a view that tells the rooms of its progress, beside events of their own."""

import pytest
from flask import Flask, request

from tests.retrofit.harness import needs

needs("flask_socketio")

from flask_socketio import SocketIO, emit, join_room

ENDPOINTS = ["generate"]


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)
    socketio = SocketIO(app, async_mode="threading")

    @app.post("/generate")
    def generate():
        room = request.json["room"]
        for number, word in enumerate(request.json["topic"].split(), 1):
            socketio.emit("progress", {"number": number, "word": word}, to=room)
        socketio.emit("done", {"words": number}, to=room)
        return {"words": number}

    @app.post("/say")
    def say():
        socketio.emit("said", request.json)
        return {}

    @socketio.on("follow")
    def follow(data):
        join_room(data["room"])
        emit("followed", data)

    @socketio.on("echo")
    def echo(data):
        return data

    return app


@pytest.fixture
def connect(app, client):
    """Opens a socket beside the app's HTTP client."""
    opened = []

    def open_socket(room=None):
        socket = app.extensions["socketio"].test_client(app, flask_test_client=client)
        opened.append(socket)
        if room is not None:
            socket.emit("follow", {"room": room})
            socket.get_received()
        return socket

    yield open_socket
    for socket in opened:
        if socket.is_connected():
            socket.disconnect()


def received(socket):
    return [(message["name"], message["args"][0]) for message in socket.get_received()]


def test_who_follows_sees_the_progress(client, connect, allowed):
    follower, stranger = connect("whales"), connect("squids")

    answer = allowed(client.post("/generate", json={"room": "whales", "topic": "whales are large"}))

    assert answer.json == {"words": 3}
    assert received(follower) == [
        ("progress", {"number": 1, "word": "whales"}),
        ("progress", {"number": 2, "word": "are"}),
        ("progress", {"number": 3, "word": "large"}),
        ("done", {"words": 3}),
    ]
    assert received(stranger) == []


def test_events_go_on_beside_it(client, connect):
    socket = connect()

    assert socket.emit("echo", {"a": 1}, callback=True) == {"a": 1}
    socket.emit("follow", {"room": "x"})
    assert received(socket) == [("followed", {"room": "x"})]
    client.post("/say", json={"text": "hello"})
    assert received(socket) == [("said", {"text": "hello"})]
