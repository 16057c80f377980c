"""What a user's type checker has to accept, and what types it has to see. Checked by test_typing.py, and imported."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import Flask
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from typing_extensions import Unpack, assert_type

import flask_bgtasks
from flask_bgtasks import (
    BackgroundTasks,
    Backoff,
    FunctionOptions,
    Notification,
    Progress,
    Result,
    Status,
    Task,
    TaskFunction,
    TaskHandle,
    ViewOptions,
    checkpoint,
    copy_current_task,
    current_task,
    step,
    track,
)

P = ParamSpec("P")
R = TypeVar("R")

app = Flask(__name__)
bgtasks = BackgroundTasks()


# -- functions


@bgtasks.task
def render(pages: int, *, title: str = "") -> str:
    return title * pages


@bgtasks.task()
def count() -> int:
    return 1


@bgtasks.task(
    name="search.index",
    steps=["Read", ("Write", 2.5)],
    notify=Notification("The index is ready", ""),
    retries=3,
    retry_on=(OSError, ValueError),
    backoff=Backoff(first=1, longest=60),
    timeout=60,
    on_interrupt="fail",
    max_concurrency=1,
    priority=-1,
    expires_after=timedelta(days=1),
    queue="slow",
)
async def index(words: list[str]) -> dict[str, int]:
    return {word: len(word) for word in words}


@bgtasks.task
async def warm_up() -> None:
    await asyncio.sleep(0)


def functions() -> None:
    assert_type(render(3, title="a"), str)
    assert_type(render.submit(3, title="a"), TaskHandle[str])
    assert_type(render.submit(pages=3).wait(), str)
    assert_type(render.submit(3, owner="ada"), TaskHandle[str])
    assert_type(render.submit(3, owner="ada", user_token="device", title="a").wait(timeout=1), str)
    assert_type(render.submit(3, user_token=None).wait(), str)
    assert_type(count.submit().wait(), int)
    assert_type(index.submit(["a"]), TaskHandle[dict[str, int]])
    assert_type(index.submit(words=["a"], owner=None).wait(), dict[str, int])
    assert_type(warm_up.submit(), TaskHandle[None])
    assert_type(bgtasks.submit("render", args=[3], kwargs={"title": "a"}, owner="ada").wait(), Any)


async def coroutines() -> None:
    assert_type(await index(["a"]), dict[str, int])
    await warm_up()


def submitted_by(task: TaskFunction[[int], R, R]) -> R:
    return task.submit(3).wait()


def waited(handle: TaskHandle[object]) -> object:
    return handle.wait()


def handles(request_id: str) -> None:
    handle = render.submit(3)
    assert_type(handle.request_id, str)
    assert_type(handle.task, Task)
    assert_type(handle.status, Status)
    assert_type(handle.progress, Progress | None)
    assert_type(handle.result(), Result | None)
    assert_type(handle.result_data(), str | None)
    assert_type(handle.wait_until_done(), Task)
    assert_type(bgtasks.get(request_id), TaskHandle[Any])
    assert_type(waited(handle), object)


def own_decorator(**options: Unpack[FunctionOptions]) -> None:
    options.setdefault("retries", 2)
    assert_type(bgtasks.task(**options)(len).submit("abc"), TaskHandle[int])


# -- views


@app.post("/lessons")
@bgtasks.background
def lessons() -> dict[str, str]:
    return {"text": ""}


@app.post("/lessons/<int:number>")
@bgtasks.background(
    respond="prefer", guards=[copy_current_task], validate=lambda: None, notify="Lesson {title} is ready"
)
def lesson(number: int) -> ResponseReturnValue:
    return {"number": number}, 201


@app.post("/songs")
@bgtasks.background(steps=("Write", "Sing"), total_steps=2, notify={"en": "Ready", "de": "Fertig"})
async def songs() -> str:
    return "la"


class Reports(MethodView):
    init_every_request = False

    @bgtasks.background(name="reports.make")
    def post(self, year: int) -> ResponseReturnValue:
        return {"year": year}

    @bgtasks.background
    async def put(self, year: int) -> str:
        return str(year)


app.add_url_rule("/reports/<int:year>", view_func=Reports.as_view("reports"))

defaults: ViewOptions = {"respond": "hold", "retries": 1}


@app.post("/pictures")
@bgtasks.background(**defaults)
def pictures() -> str:
    return ""


def logged(function: Callable[P, R]) -> Callable[P, R]:
    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return wrapper


@bgtasks.task
@logged
def logged_sum(numbers: list[int]) -> int:
    return sum(numbers)


def views() -> None:
    assert_type(lessons(), dict[str, str])
    assert_type(lesson(3), ResponseReturnValue)
    assert_type(Reports().post(2026), ResponseReturnValue)
    assert_type(logged_sum.submit([1]).wait(), int)


# -- declared on the extension


@bgtasks.owner_loader
def owner() -> str | None:
    return None


@bgtasks.before_run
def restore(task: Task) -> None:
    assert_type(task.owner, str | None)


def tracked() -> None:
    with bgtasks.track_request("import", owner="ada", steps=["Read"], notify="Ready", expires_after=60) as task:
        task.set_result({"n": 1})
        assert_type(task.request_id, str)
    assert_type(owner(), str | None)


# -- in a pipeline


def outline(text: str, *, parts: int = 1) -> list[str]:
    return [text] * parts


async def illustrate(text: str) -> bytes:
    return text.encode()


@checkpoint
def translate(text: str, language: str) -> str:
    return f"{language}: {text}"


@checkpoint("Write")
async def write(parts: list[str]) -> str:
    return "".join(parts)


@step("Draw")
def draw(section: str) -> int:
    return len(section)


async def pipeline(text: str) -> None:
    assert_type(checkpoint("Outline", outline, text), list[str])
    assert_type(checkpoint("Outline", outline, text, parts=3), list[str])
    assert_type(await checkpoint("Illustrate", illustrate, text), bytes)
    assert_type(checkpoint("Count", lambda: 3), int)
    assert_type(checkpoint("Sum", sum, [1, 2]), int)
    assert_type(translate(text, language="de"), str)
    assert_type(await write([text]), str)
    assert_type(draw(text), int)
    with step("Draw", details="all of it", weight=2), ThreadPoolExecutor() as pool:
        assert_type(list(pool.map(copy_current_task(draw), [text])), list[int])
        assert_type(copy_current_task(outline)(text, parts=2), list[str])
    for part in track([text]):
        assert_type(part, str)
    async for part in track([text], total=1):
        assert_type(part, str)
    current_task.update(details="more", fraction=0.5)
    assert_type(current_task.request_id, str | None)


def version() -> None:
    assert_type(flask_bgtasks.__version__, str)
