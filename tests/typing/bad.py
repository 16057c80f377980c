"""What a user's type checker has to refuse: every line that is marked, and no other. Checked by test_typing.py."""

from __future__ import annotations

from flask import Flask

import flask_bgtasks
from flask_bgtasks import (
    BackgroundTasks,
    TaskHandle,
    ViewOptions,
    checkpoint,
    copy_current_task,
    current_task,
    track,
)

app = Flask(__name__)
bgtasks = BackgroundTasks()


# -- functions


@bgtasks.task
def render(pages: int, *, title: str = "") -> str:
    return title * pages


@bgtasks.task(retries=1)
async def index(words: list[str]) -> int:
    return len(words)


def functions() -> None:
    render("three")  # error
    render.submit("three")  # error
    render.submit()  # error
    render.submit(3, 4)  # error
    render.submit(3, titel="a")  # error
    render.submit(3, title=4)  # error
    render.submit(3, owner=7)  # error
    index.submit("a", "b")  # error
    render.submit(3).wait() + 1  # error
    render.submit(3).wait(1.0)  # error
    pages: int = render.submit(3).wait()  # error
    handle: TaskHandle[int] = render.submit(3)  # error
    index.submit(["a"]).wait().upper()  # error
    render.submit(3).result_data().upper()  # error
    bgtasks.submit(render)  # error
    print(pages, handle)


# -- options


bgtasks.task(retires=3)  # error
bgtasks.task(retries="3")  # error
bgtasks.task(respond="async")  # error
bgtasks.task(on_interrupt="ignore")  # error
bgtasks.task(retry_on="OSError")  # error
bgtasks.background(respond="later")  # error
bgtasks.background(steps=[1, 2])  # error
bgtasks.background(timeout="1 s")  # error
bgtasks.background(validate="check")  # error
options: ViewOptions = {"priorty": 3}  # error


@app.post("/lessons")
@bgtasks.background(expire_after=60)  # error
def lessons() -> str:
    return ""


@app.post("/songs")
@bgtasks.background
def songs(number: int) -> str:
    return ""


songs("one")  # error


def tracked() -> None:
    bgtasks.track_request("import", retries=1)  # error
    with bgtasks.track_request("import") as task:
        task.set_results(1)  # error


# -- in a pipeline


def outline(text: str, *, parts: int = 1) -> list[str]:
    return [text] * parts


@checkpoint("Translate")
def translate(text: str) -> str:
    return text


def pipeline(text: str) -> None:
    checkpoint("Outline", outline)  # error
    checkpoint("Outline", outline, 3)  # error
    checkpoint("Outline", outline, text, "three")  # error
    checkpoint("Outline", outline, text, part=3)  # error
    checkpoint("Outline", outline, text).upper()  # error
    checkpoint(3, outline, text)  # error
    translate(3)  # error
    copy_current_task(outline)(3)  # error
    copy_current_task(outline)(text, part=2)  # error
    copy_current_task(3)  # error
    for number in track([1, 2]):
        number.upper()  # error
    track([1], total="two")  # error
    current_task.updated()  # error
    print(flask_bgtasks.__version__ + 1)  # error
    print(flask_bgtasks.curent_task)  # error
