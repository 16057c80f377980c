"""Cursors find the place again, in one task and in many, and a wrong one is refused and not misread."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.http.problems import Problem
from flask_bgtasks.http.streaming.cursors import parse_many, parse_one, write_many

A, B, C = (f"{n}0000000-0000-4000-8000-000000000000" for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("text", "place"), [("0", 0), ("17", 17), (" 17 ", 17), (f"{A}:17", 17), (f"{A}:17;abc.1.2", 17)]
)
def test_a_place_in_one_task_is_read(text, place):
    assert parse_one(text, A) == place


@pytest.mark.parametrize(
    "text", ["abc", "-1", "1.5", "", "1e3", "١٧", "9" * 16, f"{B}:17", f"{A}:", f"{A}:x", "17\x00"]
)
def test_what_is_no_place_in_this_task_is_refused(text):
    with pytest.raises(Problem) as caught:
        parse_one(text, A)

    assert caught.value.type.name == "invalid-cursor"


@given(st.lists(st.uuids().map(str), min_size=1, max_size=100, unique=True), st.data())
def test_an_events_id_says_where_the_client_is_in_every_task(ids, data):
    places = {i: data.draw(st.integers(0, 10**15 - 1)) for i in ids}
    of = data.draw(st.sampled_from(ids))

    text = write_many(of, places)

    assert parse_many(text, ids) == places
    assert parse_one(text, of) == places[of]  # the same id serves to go on with that one task alone
    assert text.startswith(f"{of}:{places[of]};")


def test_the_id_of_a_hundred_tasks_fits_a_header():
    ids = [f"{n:08}-0000-4000-8000-000000000000" for n in range(100)]

    assert len(write_many(ids[0], dict.fromkeys(ids, 9999))) < 600


def test_a_cursor_of_another_list_of_tasks_is_refused():
    text = write_many(A, {A: 1, B: 2})

    for others in ([A, C], [B, A], [A], [A, B, C]):
        with pytest.raises(Problem, match="another list of ids"):
            parse_many(text, others)


def test_places_can_be_named_where_lists_change():
    assert parse_many(f"{A}:17, {C}:4", [A, B, C]) == {A: 17, B: 0, C: 4}


@pytest.mark.parametrize("text", ["17", "abc", f"{A}:-1", f"{A}:x", f"{C}:1", f"{A}:1,17", f"{A}:1;", f"{A}:1;zz.1.2"])
def test_what_is_no_place_in_these_tasks_is_refused(text):
    with pytest.raises(Problem) as caught:
        parse_many(text, [A, B])

    assert caught.value.type.name == "invalid-cursor"


@given(st.text(max_size=100))
def test_no_text_breaks_the_parsers(text):
    for parse, asked in ((parse_one, A), (parse_many, [A, B])):
        with contextlib.suppress(Problem):
            parse(text, asked)
