"""Flask-SQLAlchemy: the request is the transaction, committed at its end if it went well."""

import pytest
from flask import Flask, abort, jsonify, request

from tests.retrofit.harness import Mode, needs

needs("flask_sqlalchemy")

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ENDPOINTS = ["order", "order_all", "transfer", "rename", "refund"]


class Base(DeclarativeBase):
    pass


class SoldOut(Exception):
    pass


def create_app(config):
    app = Flask(__name__)
    app.config.from_mapping(config)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{config['DATA_FOLDER']}/shop.sqlite3"
    db = SQLAlchemy(model_class=type("Base", (DeclarativeBase,), {}))
    db.init_app(app)

    class Item(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)

    @app.teardown_request
    def end_of_transaction(error):
        if error is None:
            db.session.commit()
        else:
            db.session.rollback()

    @app.errorhandler(SoldOut)
    def sold_out(error):
        db.session.rollback()
        return jsonify(error="sold out"), 409

    def add(name):
        db.session.add(Item(name=name))
        db.session.flush()

    @app.post("/order")
    def order():
        add(request.json["name"])
        return {"items": db.session.scalars(db.select(Item.name).order_by(Item.name)).all()}, 201

    @app.post("/order-all")
    def order_all():
        for name in request.json["names"]:
            add(name)
            if name == "bad":
                raise RuntimeError("the warehouse is on fire")
        return {"ordered": len(request.json["names"])}

    @app.post("/transfer")
    def transfer():
        add(request.json["name"])
        raise SoldOut

    @app.post("/rename")
    def rename():
        item = db.session.execute(db.select(Item).filter_by(name=request.json["from"])).scalar_one_or_none()
        if item is None:
            abort(404)
        item.name = request.json["to"]
        return {"renamed": item.id}

    @app.post("/refund")
    def refund():
        add("refund")
        return jsonify(error="not today"), 503  # an answer, not an exception: Flask commits

    @app.get("/items")
    def items():
        return db.session.scalars(db.select(Item.name).order_by(Item.name)).all()

    with app.app_context():
        db.create_all()
    return app


def test_an_order_is_committed(client, allowed):
    answer = allowed(client.post("/order", json={"name": "whale"}), 201)

    assert answer.json == {"items": ["whale"]}
    assert client.get("/items").json == ["whale"]


def test_several_orders(client, allowed):
    assert allowed(client.post("/order-all", json={"names": ["a", "b", "c"]})).json == {"ordered": 3}
    assert allowed(client.post("/rename", json={"from": "b", "to": "z"})).json == {"renamed": 2}
    assert client.get("/items").json == ["a", "c", "z"]


def test_half_an_order_is_rolled_back(make_app):
    """`PROPAGATE_EXCEPTIONS` off, as in production: Flask answers 500."""
    client = make_app(TESTING=False).test_client()

    answer = client.post("/order-all", json={"names": ["a", "b", "bad", "c"]})

    assert answer.status_code == 500
    assert client.get("/items").json == []


def test_half_an_order_is_rolled_back_where_exceptions_propagate(client, mode):
    if mode is Mode.ASYNC:
        assert client.post("/order-all", json={"names": ["a", "b", "bad", "c"]}).status_code == 500
    else:
        with pytest.raises(RuntimeError, match="the warehouse is on fire"):
            client.post("/order-all", json={"names": ["a", "b", "bad", "c"]})
    assert client.get("/items").json == []


def test_a_database_error_is_rolled_back(make_app):
    client = make_app(TESTING=False).test_client()
    client.post("/order", json={"name": "a"})

    assert client.post("/order-all", json={"names": ["b", "a"]}).status_code == 500
    assert client.get("/items").json == ["a"]
    assert client.post("/order", json={"name": "c"}).status_code == 201


def test_an_error_with_a_handler(client):
    answer = client.post("/transfer", json={"name": "a"})

    assert (answer.status_code, answer.json) == (409, {"error": "sold out"})
    assert client.get("/items").json == []


def test_an_abort_in_the_view(client):
    assert client.post("/rename", json={"from": "nothing", "to": "z"}).status_code == 404


def test_an_error_that_is_answered_is_committed(client):
    answer = client.post("/refund")

    assert (answer.status_code, answer.json) == (503, {"error": "not today"})
    assert client.get("/items").json == ["refund"]
