"""Any text, made storable."""

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.core.text.clean import MAX_IDENTITY_BYTES, clean, identity, is_text, text_of

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=50)


class Lazy:
    """As flask-babel's lazy strings: no string, but one when it is read."""

    def __str__(self):
        return "Zeichnen"


class Broken:
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("Draw \ud83d", "Draw \ufffd"),
        ("\ude00 Draw", "\ufffd Draw"),
        ("\ud83d\ude00", "😀"),
        ("a\x00b", "a\ufffdb"),
        ("\ufeffé漢😀", "\ufeffé漢😀"),
        ("\udcff", "\ufffd"),
    ],
)
def test_what_no_database_takes_is_replaced_and_nothing_else(given_text, kept):
    assert clean(given_text) == kept


@given(ANY_TEXT)
def test_clean_text_is_utf_8_without_nul_and_clean_text_stays_as_it_is(text):
    cleaned = clean(text)

    assert cleaned.encode().decode() == cleaned
    assert "\x00" not in cleaned
    assert clean(cleaned) == cleaned


def test_a_text_is_cut_with_an_ellipsis():
    assert clean("x" * 1001, 1000) == "x" * 999 + "…"
    assert clean("x" * 1000, 1000) == "x" * 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Lazy(), "Zeichnen"),
        (Broken(), "<Broken: its text is not available>"),
        (10**5000, None),
        (3.5, "3.5"),
        (ValueError("\ud83d"), "\ufffd"),
    ],
    ids=["lazy", "broken", "5,000 digits", "a float", "an error"],
)
def test_any_object_has_a_text(value, text):
    made = text_of(value)

    assert text is None or made == text
    assert len(made) <= 1000


def test_a_string_of_a_class_of_its_own_is_its_content():
    class Colour(str, enum.Enum):
        RED = "red"

    assert text_of(Colour.RED) == "red"


@pytest.mark.parametrize(
    ("value", "yes"),
    [("a", True), (Lazy(), True), (None, False), (5, False), (b"a", False), ([], False), (print, False)],
)
def test_what_is_meant_to_be_read_is_told_from_what_is_not(value, yes):
    assert is_text(value) is yes


@given(ANY_TEXT, ANY_TEXT)
def test_different_identities_stay_different(one, other):
    assert (identity(one) == identity(other)) == (one == other)


def test_an_identity_is_short_enough_for_an_index():
    long = ["ü" * 5000, "ü" * 4999, "a" + "\ud83d" * 3000]

    assert all(len(identity(text).encode()) <= MAX_IDENTITY_BYTES for text in long)
    assert len({identity(text) for text in long}) == 3
    assert identity("ada@example.org") == "ada@example.org"
