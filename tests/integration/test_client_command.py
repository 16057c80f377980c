"""``bgtasks-client``: what it prints where, and how it exits."""

import json

import pytest
from click.testing import CliRunner

from flask_bgtasks.client import clients
from flask_bgtasks.client.cli import command
from flask_bgtasks.client.cli.command import main
from tests.backends.wsgi import served
from tests.support.http_app import opened
from tests.support.waiting import until


@pytest.fixture
def studio(tmp_path):
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def run(studio, tmp_path):
    with served(studio.app) as server:

        def invoke(*words, url=server.url, **options):
            store = str(tmp_path / "pending.sqlite3")
            return CliRunner().invoke(main, ["--url", url, "--store", store, *words], **options)

        yield invoke


def test_a_submission_prints_its_result_and_its_progress_beside(run):
    done = run("submit", "/process", '{"input_text": "Whales"}')

    assert json.loads(done.stdout) == {"blocks": ["Whales"]}
    assert "Outline" in done.stderr
    assert "100.0%  completed" in done.stderr
    assert done.exit_code == 0


@pytest.mark.parametrize("way", ["-", "@file"])
def test_the_body_comes_from_stdin_or_a_file(run, tmp_path, way):
    (tmp_path / "body.json").write_text('{"input_text": "from a file"}')
    word = "-" if way == "-" else f"@{tmp_path / 'body.json'}"

    done = run("submit", "/process", word, input='{"input_text": "from stdin"}')

    assert "from a file" in done.stdout or "from stdin" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("submit", "/break"), 1, "failed: the pen broke"),
        (("submit", "/nowhere"), 4, "rejected"),
        (("watch", "00000000-0000-4000-8000-000000000000"), 5, "gone"),
        (("submit", "/process", "no json"), 2, "no JSON"),
        (("submit", "/process", "@nofile"), 2, "nofile"),
        (("--header", "nonsense", "pending"), 2, "NAME:VALUE"),
    ],
)
def test_the_exit_code_says_how_it_ended(run, words, code, said):
    done = run(*words)

    assert done.exit_code == code, done.stderr
    assert said in done.stderr


def test_a_wrong_address_is_an_error_in_words(run):
    done = run("pending", url="localhost")

    assert done.exit_code == 1
    assert "http://" in done.stderr


def test_a_detached_task_is_watched_later(run, studio):
    name = run("submit", "--detach", "/wait", '{"gate": "g"}').stdout.strip()
    assert name in run("pending").stdout
    late = run("watch", name, "--timeout", "0.2")
    assert (late.exit_code, f"watch {name}" in late.stderr) == (7, True)

    studio.open("g")
    done = run("watch", name)

    assert json.loads(done.stdout) == {"gate": "g"}
    assert run("pending").stdout == ""


def test_everything_that_is_pending_is_watched_and_the_worst_is_the_exit_code(run):
    for path in ("/process", "/break"):
        run("submit", "--detach", path, '{"input_text": "x"}')

    done = run("watch")

    assert sorted(line.split()[1] for line in done.stdout.splitlines()) == ["completed", "failed"]
    assert done.exit_code == 1


def test_what_cannot_be_sent_is_kept_and_sent_by_a_later_call(run, studio):
    offline = run(
        "submit", "--timeout", "0.1", "/process", '{"input_text": "x"}', "--key", "k", url="http://127.0.0.1:9"
    )
    assert offline.exit_code == 7
    assert "stored here" in offline.stderr

    assert "queued" in run("pending", url="http://127.0.0.1:9").stdout


def test_a_check_sends_and_tells_first(run, studio):
    name = run("submit", "--detach", "/process", '{"input_text": "x"}').stdout.strip()
    studio.finish(name)

    done = run("pending", "--check")

    assert done.stdout == ""
    assert f"{name}  completed" in done.stderr


def test_the_servers_401_is_an_exit_code_of_its_own(run, studio):
    studio.app.before_request(lambda: ("no", 401))

    done = run("submit", "/process", "{}")

    assert done.exit_code == 6
    assert "--token" in done.stderr


def test_ctrl_c_leaves_the_task_running_and_says_how_to_go_on(run, studio, monkeypatch):
    def interrupted(self, *tasks, timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(clients.Client, "events", interrupted)
    done = run("submit", "/wait", '{"gate": "g"}')

    assert done.exit_code == 130
    assert "It goes on. Follow it again with: bgtasks-client watch" in done.stderr
    assert until(lambda: studio.reached["g"].is_set())


def test_a_terminal_gets_a_bar(run, monkeypatch):
    class Terminal:
        written = ""

        def isatty(self):
            return True

        def write(self, text):
            self.written += text

        def flush(self):
            pass

    terminal = Terminal()
    display = command.Display
    monkeypatch.setattr(command, "Display", lambda file, **options: display(terminal, **options))

    run("submit", "/process", '{"input_text": "x"}')

    assert "100%" in terminal.written
    assert "####" in terminal.written
