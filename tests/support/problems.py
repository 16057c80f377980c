"""Problem documents, as an answer has to have them."""

import json

from flask_bgtasks.http.problems import BASE, TYPES


def problem(answer, name):
    """Assert that this is that problem; its document."""
    assert answer.content_type == "application/problem+json", answer.text
    document = json.loads(answer.data)
    assert document["type"] == BASE + name
    assert document["status"] == answer.status_code == TYPES[name].status
    assert document["title"] == TYPES[name].title
    return document
