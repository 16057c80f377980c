"""A reader of event streams after WHATWG HTML 9.2.6, for tests: what a page's EventSource would dispatch."""

import json
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    """One dispatched event."""

    type: str
    data: str
    last_id: str

    @property
    def document(self):
        return json.loads(self.data)


def read(stream: bytes, *, last_id: str = "") -> list[Seen]:
    """The events of a stream. One that is cut off in its middle is dropped, as a browser drops it."""
    found, type, data = [], "", []
    text = stream.decode("utf-8").removeprefix("\ufeff")
    lines = re.split(r"\r\n|\r|\n", text)[:-1]  # what follows the last line end is not a line yet
    for line in lines:
        if not line:
            if data:
                found.append(Seen(type or "message", "\n".join(data), last_id))
            type, data = "", []
            continue
        if line.startswith(":"):
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            type = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last_id = value
    return found
