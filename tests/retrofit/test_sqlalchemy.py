"""Plain SQLAlchemy with a `scoped_session` that `teardown_appcontext` ends (Flask docs, "SQLAlchemy in Flask")."""

import threading

from flask import Flask, g, request
from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker

ENDPOINTS = ["pay", "pay_twice"]


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)
    engine = create_engine(f"sqlite:///{config['DATA_FOLDER']}/bank.sqlite3")
    session = scoped_session(sessionmaker(engine))
    ended = []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE payment (amount INTEGER)"))

    @app.before_request
    def begin():
        g.currency = request.headers.get("Accept-Language", "EUR")

    @app.teardown_appcontext
    def end(error):
        ended.append((type(error).__name__, threading.current_thread().name))
        if error is None:
            session.commit()
        session.remove()

    def book(amount):
        session.execute(text("INSERT INTO payment VALUES (:amount)"), {"amount": amount})

    @app.post("/pay/<int:amount>")
    def pay(amount):
        book(amount)
        return {"paid": amount}

    @app.post("/pay-twice/<int:amount>")
    def pay_twice(amount):
        book(amount)
        if amount > 100:
            raise ValueError("too much")
        book(amount)
        return {"paid": 2 * amount}

    @app.get("/payments")
    def payments():
        return [amount for (amount,) in session.execute(text("SELECT amount FROM payment"))]

    app.extensions["ended"] = ended
    app.extensions["engine"] = engine
    return app


def test_a_payment(client, allowed):
    assert allowed(client.post("/pay/5")).json == {"paid": 5}
    assert allowed(client.post("/pay-twice/7")).json == {"paid": 14}
    assert client.get("/payments").json == [5, 7, 7]


def test_half_a_payment_is_not_made(make_app):
    app = make_app(TESTING=False)
    client = app.test_client()

    assert client.post("/pay-twice/101").status_code == 500
    assert client.get("/payments").json == []
    assert "ValueError" in [name for name, _ in app.extensions["ended"]]
