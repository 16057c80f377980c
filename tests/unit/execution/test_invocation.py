"""What a user is told of an error."""

import pytest
from werkzeug.exceptions import HTTPException, UnprocessableEntity

from flask_bgtasks.execution.invocation import describe


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no such model"), "no such model"),
        (ValueError(), "ValueError"),
        (KeyError("title"), "KeyError: 'title'"),
        (UnprocessableEntity("too short"), "too short"),
        (HTTPException(), "Unknown Error"),
        (OSError("cannot reach postgresql://ada:s3cret@db/app"), "cannot reach postgresql://***@db/app"),
        (ValueError("Authorization: Bearer abc.def"), "Authorization: ***"),
        (ValueError("bad key sk-proj-1234567890abcdef"), "bad key ***"),
        (ValueError("GET /x?api_key=12345&n=1"), "GET /x?api_key=***&n=1"),
        (ValueError("jwt eyJhbGciOiJI.eyJzdWIi.c2ln"), "jwt ***"),
        (ValueError("the monkey = 3, task skips"), "the monkey = 3, task skips"),
    ],
)
def test_an_error_says_its_message_without_what_looks_like_a_credential(error, told):
    assert describe(error) == told


def test_a_very_long_message_is_cut():
    assert len(describe(ValueError("x" * 100_000))) == 1000
