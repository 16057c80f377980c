"""What looks like a credential is not shown; what only sounds like one is."""

import pytest

from flask_bgtasks.core.text.redaction import MAX_LENGTH, redact

SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        "password='hunter2 hunter2'",
        'password="a \\" hunter2"',
        "password: \"hunter2 was cut",
        "DB_PASSWORD=hunter2",
        "pwd = hunter2",
        "passphrase: hunter2",
        "client_secret=hunter2&grant=x",
        "api_key: hunter2",
        "apiKey=hunter2",
        "key=hunter2",
        "{'password': 'hunter2', 'user': 'ada'}",
        '{"password": "hunter2"}',
        '"{\\"password\\": \\"hunter2\\"}"',
        "{'password': ['hunter2', 'hunter2']}",
        "ImmutableMultiDict([('user', 'ada'), ('password', 'hunter2')])",
        "[(b'password', b'hunter2')]",
        "Login(password=SecretStr('hunter2'))",
        "os.environ['SECRET_KEY'] = 'hunter2'",
        "auth=('ada', 'hunter2')",
        "<password>hunter2</password>",
        "Command '['mysql', '--password', 'hunter2']' returned 1",
        "mysql --password hunter2 -u root",
        "redis://:hunter2@cache:6379/0",
        "postgresql://ada:hunter2@db/app",
        "postgresql://ada:p@hunter2@db/app",
        "https://hunter2hunter2hunter2@example.com/",
        "Authorization: Token hunter2",
        "Authorization: Digest username=\"ada\", response=\"hunter2\"",
        "{'Authorization': 'Token hunter2'}",
        "(b'authorization', b'Bearer hunter2')",
        "Proxy-Authorization=Basic hunter2",
        "Bearer hunter2",
        "X-Api-Key: hunter2",
        "{'X-Auth-Token': 'hunter2'}",
        "Set-Cookie: session=hunter2; Path=/; HttpOnly",
        "{'Cookie': 'a=hunter2; b=hunter2'}",
        "GET https://api.example.com/x?access_token=hunter2&a=b",
        "https://s3.example.com/x?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
        "https://blob.example.com/x?sv=1&sig=hunter2%3D",
        "https://storage.example.com/x?X-Goog-Signature=hunter2",
        "https://app.example.com/callback?code=hunter2&state=hunter2",
        "aws_secret_access_key = hunter2",
        "'SecretAccessKey': 'hunter2'",
        "aws_session_token=hunter2",
        "AccountKey=hunter2==;EndpointSuffix=core.windows.net",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\nhunter2 was cut",
        "ya29.hunter2hunter2",
        "1//0hunter2hunter2",
        "glpat-hunter2hunter2",
        "ghp_hunter2hunter2",
        "github_pat_hunter2hunter2",
        "xoxb-1234-hunter2",
        "xapp-1-hunter2hunter2",
        "https://hooks.slack.com/services/T0/B0/hunter2",
        "https://discord.com/api/webhooks/1/hunter2",
        "sk_live_hunter2hunter2",
        "rk_test_hunter2hunter2",
        "whsec_hunter2hunter2",
        "sk-hunter2hunter2",
        "sk-proj-hunter2hunter2",
        "sk-ant-api03-hunter2hunter2",
        "SG.hunter2hunter2.hunter2",
        "npm_hunter2hunter2",
        "pypi-hunter2hunter2",
        "hf_hunter2hunter2",
        "hvs.hunter2hunter2",
        "eyJhbGciOiJIUzI1NiJ9.hunter2.hunter2",
        "abc:APA91bhunter2hunter2hunter2",
    ],
)  # fmt: skip
def test_a_credential_is_not_shown(text):
    for shown in (redact(text), redact(f"Error: could not use {text} here"), redact(f'x"{text}')):
        assert SECRET not in shown
        assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'missing'",
        "max_tokens: 4096 is more than 2048",
        "skyscrapers, skeletons and a risk-assessment-document",
        "http://localhost:8080/path is not there",
        "sqlite:///bgtasks.sqlite3",
        "postgresql://app@db/x",
        "basic auth failed for the bearer of bad news",
        "token expired yesterday",
        "duplicate key value violates unique constraint \"u\": Key (email)=(a@b.c) already exists",
        "HTTPSConnectionPool(host='api.openai.com', port=443): Max retries exceeded with url: /v1/chat",
        "status code=404, state=failed",
        "cannot import name 'password' from 'app'",
    ],
)  # fmt: skip
def test_what_is_no_credential_is_shown(text):
    assert redact(text) == text


def test_what_stands_around_a_credential_is_shown():
    assert redact("{'password': 'x1', 'user': 'ada'}") == "{'password': '***', 'user': 'ada'}"
    assert redact("GET /x?access_token=x1&page=2 gave 403") == "GET /x?access_token=***&page=2 gave 403"
    assert redact("redis://:x1@cache:6379/0 is away") == "redis://***@cache:6379/0 is away"


def test_redacting_twice_changes_nothing_more():
    once = redact("password='x1' Authorization: Token x1\nBearer abcdef1 redis://u:x1@h sk-proj-12345678 ?sig=x1")

    assert redact(once) == once


def test_a_text_is_cut_where_no_credential_is_cut_in_half():
    shown = redact("a " * (MAX_LENGTH // 2 - 3) + "redis://ada:hunter2hunter2@cache/0")

    assert len(shown) <= MAX_LENGTH + 2
    assert "hunter2" not in shown


@pytest.mark.parametrize("blank", [" ", "\n", "\t ", "\u2003"])
def test_a_text_of_blanks_only_is_cut_too(blank):
    assert redact(blank * MAX_LENGTH + "hunter2") == " …"
