"""JSON values on their way in and out: reports are checked and copied, answers can always be written.

In: :func:`encode` and :func:`snapshot` accept what every reader can read back, or say where it is not JSON. Out:
:func:`dumps` writes whatever is stored, also by earlier versions. Pure; knows :mod:`.clean`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .clean import REPLACEMENT, text_of, valid

MAX_DEPTH = 200
"""Lists and objects within one another, of what goes in. Python's parser gives up near 1,000, less what its caller's
stack has used: what is deeper might be stored here and not be readable there."""

_LONE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Finds in JSON text what may be half of a surrogate pair, or only looks like one. All its parts have fixed lengths."""

_ascii = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class NotJson(ValueError):
    """A value is not JSON; the message says why, and where in it."""


# -- in ----------------------------------------------------------------------------------------------------------------


def encode(value: Any) -> str:
    """A value as JSON text, ASCII only, its texts cleaned.

    :raises NotJson: it is not JSON (NaN and infinity are not), or nested deeper than :data:`MAX_DEPTH`.
    """
    try:
        text = _ascii(value)
    except Exception as error:  # whatever an object of the app's, or a dict that changes meanwhile, raises
        raise NotJson(f"{_reason(error)}{_place(value)}") from None
    if not _is_suspicious(text):
        return text
    return _ascii(_loaded(text))


def snapshot(value: Any) -> tuple[Any, int]:
    """A copy of a value as its readers will see it, and the bytes that it takes as JSON in UTF-8.

    :raises NotJson: as :func:`encode`.
    """
    if isinstance(value, str):
        text = valid(str.__str__(value))
        return text, len(_compact(text).encode())
    encoded = encode(value)
    copied = json.loads(encoded)
    size = len(encoded) if "\\u" not in encoded else len(_compact(copied).encode())
    return copied, size


def checked(text: str) -> str:
    """JSON text that an app's own encoder made, as every reader can take it: its texts cleaned.

    :raises NotJson: it holds NaN or infinity, or is nested too deep.
    """
    text = valid(text)
    if "NaN" in text or "Infinity" in text or _is_suspicious(text):
        loaded = _loaded(text)
        if _LONE.search(text):
            return _ascii(loaded)
    return text


def cleaned(value: Any) -> Any:
    """A value with all its texts cleaned; what is no list, object or text stays as it is, for an app's own encoder.

    :raises NotJson: it is nested too deep.
    """
    if is_too_deep(value):
        raise NotJson(f"it is nested deeper than {MAX_DEPTH} levels")
    return _cleaned(value)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return valid(str.__str__(value))
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    return value


def _is_suspicious(text: str) -> bool:
    """Whether JSON text has to be looked at closely: it may be too deep, or hold half a surrogate pair."""
    return text.count("[") + text.count("{") > MAX_DEPTH or _LONE.search(text) is not None


def _loaded(text: str) -> Any:
    try:
        return cleaned(json.loads(text, parse_constant=_refuse))
    except RecursionError:
        raise NotJson(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except NotJson:
        raise
    except ValueError as error:
        raise NotJson(_reason(error)) from None


def _refuse(constant: str) -> Any:
    raise NotJson(f"{constant} is not JSON; use None")


def is_too_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than :data:`MAX_DEPTH`, or without an end."""
    level = {id(value): value}  # by identity: a list that holds itself twice stays one
    for _ in range(MAX_DEPTH):
        level = {
            id(item): item for one in level.values() for item in _children(one) if isinstance(item, (dict, list, tuple))
        }
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def _place(value: Any) -> str:
    """Where in a value the first item is that is not JSON, for an error's text: ``, at value['scores'][3]``."""
    try:
        return "" if is_too_deep(value) else _place_of_culprit(value)
    except Exception:  # it changes while it is looked at
        return ""


def _place_of_culprit(value: Any) -> str:
    path = "value"
    for _ in range(20):
        if isinstance(value, Mapping):
            children = [(f"{path}[{_shown(key)}]", item) for key, item in list(value.items())]
        elif isinstance(value, (list, tuple)):
            children = [(f"{path}[{n}]", item) for n, item in enumerate(list(value))]
        else:
            break
        found = next(((place, item) for place, item in children if not _is_json(item)), None)
        if found is None:
            break
        path, value = found
    return "" if path == "value" else f", at {path}"


def _shown(key: Any) -> str:
    try:
        return text_of(repr(key), 100)
    except Exception:
        return f"<{type(key).__name__}>"


def _is_json(value: Any) -> bool:
    try:
        _ascii(value)
    except Exception:
        return False
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"it is nested deeper than {MAX_DEPTH} levels"
    return text_of(error, 200) or type(error).__name__


# -- out ---------------------------------------------------------------------------------------------------------------


def dumps(document: Any) -> bytes:
    """A document as JSON in UTF-8, without blanks. Never fails: what is not JSON is written as :func:`plain` has it."""
    try:
        text = _compact(document)
    except Exception:
        text = _compact(plain(document))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return valid(text).encode()


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """The next best thing that is JSON: NaN and infinity as null (as JavaScript writes them), other objects as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return valid(str.__str__(value))
    if isinstance(value, int):
        return int(value) if -(2**64) < value < 2**64 else text_of(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (Mapping, list, tuple)) and depth == 0:
        return REPLACEMENT
    if isinstance(value, Mapping):
        return {text_of(key): plain(item, depth - 1) for key, item in list(value.items())}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in list(value)]
    return text_of(value)


def repeated(body: bytes) -> bytes | None:
    """A stored JSON body as part of a document: compact, valid, NaN and infinity as null.

    :returns: None where it cannot be repeated: it is nested too deep, or holds a number that Python does not read.
    :raises ValueError: it is not JSON, whatever its type says.
    """
    try:
        value = json.loads(body)
    except RecursionError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError:  # an int of more digits than Python converts
        return None
    return None if is_too_deep(value) else dumps(value)


def parsed(body: bytes | str) -> tuple[Any] | None:
    """A stored JSON body, in a tuple since it may be null; None where it is not JSON, or cannot be read back."""
    try:
        return (json.loads(body),)
    except (ValueError, RecursionError):
        return None
