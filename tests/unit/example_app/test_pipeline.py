"""The example app's pipeline by itself: outside a task, offline, as fast as it goes."""

import base64
import io
import json
import socket
from pathlib import Path

import pytest
from PIL import Image

from example_app import pace as pace_module
from example_app.demo_key import demo_secret_key
from example_app.lesson import Section
from example_app.outline import MAX_SECTIONS, outline
from example_app.pace import Pace
from example_app.pipeline import STEPS, make_lesson
from example_app.quiz import GAP, make_quiz
from example_app.reading import read
from example_app.summary import key_sentences, quick_summary
from example_app.writers import OfflineWriter, choose_writer

SAMPLE = (Path(__file__).parents[3] / "example_app" / "sample.txt").read_text("utf-8")

HIVE = (
    "The hive is home to one queen and to thousands of workers. Young workers clean the cells and feed the larvae. "
    "Older workers leave the hive and gather nectar from the flowers of the meadow. A dance tells the others where "
    "the flowers are. The queen lays two thousand eggs on a day in early summer. "
)
HONEY = (
    "Nectar is thin when it arrives, and the bees fan it with their wings until it thickens. Honey keeps for years, "
    "because bacteria find no water in it. A beekeeper cuts the wax caps from the comb with a warm knife. The "
    "extractor spins the comb and the honey runs down its wall. What the bees need for the winter stays in the hive. "
)
BEES = f"# Bees\n\n## The hive\n\n{HIVE * 2}\n\n## Honey\n\n{HONEY * 2}\n"


def lesson(text, **options):
    return make_lesson(text, writer=OfflineWriter(), **options)


@pytest.fixture(scope="module")
def sample_lesson():
    return lesson(SAMPLE)


# -- the lesson ----------------------------------------------------------------------------------------------------


def test_a_chapter_becomes_blocks_a_story_and_a_lecture(sample_lesson):
    numbers = [block["number"] for block in sample_lesson["blocks"]]

    assert sample_lesson["title"] == "The Chemical History of a Candle"
    assert numbers == list(range(1, len(numbers) + 1))
    assert 5 <= len(numbers) <= MAX_SECTIONS
    for block in sample_lesson["blocks"]:
        assert block["title"]
        assert 1 <= len(block["summary"]) <= 3
        assert block["keywords"]
        assert block["quiz"]
    assert len(sample_lesson["story"]["paragraphs"]) > len(numbers)
    assert len(sample_lesson["lecture"]["parts"]) == len(numbers)


def test_the_result_is_json_of_a_few_hundred_kilobytes(sample_lesson):
    stored = json.dumps(sample_lesson, allow_nan=False)

    assert len(stored) < 500_000


def test_the_whole_text_says_what_it_is_about(sample_lesson):
    assert {"candle", "flame"} <= set(sample_lesson["keywords"])


def test_the_same_text_gives_the_same_lesson(sample_lesson):
    again = lesson(SAMPLE)

    assert again == sample_lesson


def test_summaries_are_sentences_of_the_text(sample_lesson):
    sentences = set(read(SAMPLE).sentences)

    for block in sample_lesson["blocks"]:
        assert set(block["summary"]) <= sentences


def test_every_question_has_one_right_answer_which_its_text_gives(sample_lesson):
    questions = [question for block in sample_lesson["blocks"] for question in block["quiz"]]

    for question in questions:
        right = question["choices"][question["answer"]]
        assert question["question"].count(GAP) == 1
        assert question["question"].replace(GAP, right).lower() == question["explanation"].lower()
        assert len(set(question["choices"])) == len(question["choices"]) >= 2
        wrong = [choice for choice in question["choices"] if choice != right]
        assert not any(f" {choice.lower()} " in question["explanation"].lower() for choice in wrong)


def test_the_parts_of_the_lecture_follow_each_other_without_a_gap(sample_lesson):
    at = 0

    for part in sample_lesson["lecture"]["parts"]:
        minutes, seconds = part["starts_at"].split(":")
        assert int(minutes) * 60 + int(seconds) == at
        at += part["seconds"]
    assert sample_lesson["lecture"]["minutes"] == -(-at // 60)


def test_pictures_are_images_of_the_size_that_they_say(sample_lesson):
    for block in sample_lesson["blocks"]:
        kind, data = block["image"]["url"].split(",", 1)
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        picture.load()
        assert kind == "data:image/webp;base64"
        assert picture.size == (block["image"]["width"], block["image"]["height"])
        assert block["title"] in block["image"]["alt"]


def test_nothing_is_asked_of_the_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"the offline pipeline opened a connection: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert lesson(BEES)["blocks"]


# -- texts of all kinds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Water boils at one hundred degrees at the level of the sea.",
        "Hello",
        "!!! ??? …",
        "🔥🕯️ " * 40,
        "蜡烛燃烧时会产生水和二氧化碳。" * 40,
        "الشمعة تحترق وتضيء الغرفة. " * 30,
        "Ein Bär läuft über die Brücke; naïve cafés in Łódź sell smørrebrød. " * 10,
        "The {key} is in {0} of {listener}, and 100% of %s is {}. " * 10,
        "# A\n\n## B\n\n### C",
        "THIS IS ALL IN CAPITALS AND SHOUTED AT THE READER. " * 20,
        "\n".join(["a short line"] * 200),
        "x" * 5_000,
        "One\x00two\x07 three\u00adfour. " * 10,
    ],
    ids=[
        "one sentence",
        "one word",
        "marks only",
        "emoji",
        "Chinese",
        "Arabic",
        "accents",
        "braces",
        "headings only",
        "capitals",
        "lines",
        "one long word",
        "control characters",
    ],
)
def test_any_text_becomes_a_lesson(text):
    made = lesson(text)

    assert made["title"]
    assert made["blocks"]
    assert made["blocks"][0]["summary"]
    assert made["story"]["paragraphs"]
    assert len(made["lecture"]["parts"]) == len(made["blocks"])
    json.dumps(made, allow_nan=False).encode("utf-8")


def test_a_very_long_text_has_no_more_sections_than_a_reader_can_take():
    sections = outline(read(SAMPLE * 6))

    assert len(sections) <= MAX_SECTIONS + 1
    assert sum(section.words for section in sections) > 30_000


def test_a_transcript_without_full_stops_is_cut_into_sentences():
    document = read("and the candle burns while the wax melts and the flame rises again " * 300)

    assert max(len(sentence.split()) for sentence in document.sentences) <= 90
    assert len(outline(document)) > 1


# -- reading -------------------------------------------------------------------------------------------------------


def test_headings_become_the_titles_of_sections():
    made = lesson(BEES)

    assert made["title"] == "Bees"
    assert [block["title"] for block in made["blocks"]] == ["The hive", "Honey"]


def test_what_copying_leaves_behind_is_undone():
    document = read(
        "The tallow[2] is first\r\nboiled with _quick-lime_, and so on--\r\nsee [Illustration: Fig. 1.] it."
    )

    assert document.sentences == ("The tallow is first boiled with quick-lime, and so on—see it.",)


def test_abbreviations_do_not_end_a_sentence():
    document = read(
        "Mr. Field, of Lambeth, met Dr. J. H. Gladstone in St. James's. They spoke of wax, e.g. of paraffin."
    )

    assert len(document.sentences) == 2


def test_no_sentence_of_the_text_is_lost_between_the_sections():
    document = read(SAMPLE)

    sections = outline(document)

    assert tuple(sentence for section in sections for sentence in section.sentences) == document.sentences


def test_key_sentences_come_in_the_order_of_the_text():
    sentences = read(SAMPLE).sentences

    found = key_sentences(sentences, most=5)

    assert found == sorted(found, key=sentences.index)
    assert len(set(found)) == 5


def test_a_quick_summary_of_a_short_text_is_the_text():
    assert quick_summary("Wax melts. It burns.") == ["Wax melts.", "It burns."]


def test_without_a_wrong_answer_there_is_no_question():
    section = Section(1, "Wax", ("The candle is made of wax and of a wick.",), keywords=("wax",))

    assert make_quiz(section, ["wax"]) == ()


# -- who writes, and how fast --------------------------------------------------------------------------------------


def test_without_a_key_the_lesson_is_written_offline():
    assert choose_writer({"LESSON_MODEL": "some-model"}).name == "offline templates"


def test_a_key_and_a_name_choose_a_model():
    chosen = choose_writer(
        {"OPENAI_API_KEY": "key", "LESSON_MODEL": "some-model", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    )

    assert chosen.name == "some-model"


def test_the_pace_dwells_in_slices_so_that_a_cancelled_task_hears_of_it(monkeypatch):
    clock = FakeTime()
    monkeypatch.setattr(pace_module, "time", clock)

    Pace(2.0).wait(0.5)

    assert clock.now == pytest.approx(1.0)
    assert max(clock.slept) <= pace_module.SLICE


def test_a_lesson_at_a_pace_takes_its_time_for_each_section(monkeypatch):
    clock = FakeTime()
    monkeypatch.setattr(pace_module, "time", clock)

    lesson(BEES, pace=Pace(1.0))

    per_section = len(STEPS) - 3  # Read and Outline take one unit each, the story its own
    assert clock.now > 2 + 2 * per_section


def test_all_processes_of_the_demo_agree_on_its_key(tmp_path):
    first = demo_secret_key(tmp_path / "instance")

    assert demo_secret_key(tmp_path / "instance") == first
    assert len(first) == 64
    assert [path.name for path in (tmp_path / "instance").iterdir()] == ["secret-key"]


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 0.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
