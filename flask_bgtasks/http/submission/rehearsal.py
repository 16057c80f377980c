"""Tests in the request whether a run of it would reach the function inside the view's decorators.

Needed only if a decorator adds arguments that cannot be stored: a parser makes them again from the stored body in any
run; a login check cannot, without its credentials. No ``202`` is sent for a task that can only fail.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from ...app.state import EPOCH, AppState
from ...capture import arguments
from ...core.definitions import TaskDefinition
from ...core.model import Task
from ...wrapping.argument_changes import Arguments
from ...wrapping.passage import Arrived, Rehearsal


def comes_to_the_gate(
    state: AppState, definition: TaskDefinition, input: Mapping[str, Any], owner: str | None, expected: Arguments
) -> bool:
    """Whether a run of this request gets its arguments.

    :param input: the request as it would be stored.
    :param expected: the arguments that came to the gate in the request.
    """
    task = Task(
        request_id=str(uuid.uuid4()),
        name=definition.name,
        kind=definition.kind,
        created_at=EPOCH,
        updated_at=EPOCH,
        expires_after=state.settings.expires_after,
        owner=owner,
    )
    chain = state.chain(definition)
    passage = Rehearsal(input.get("passed_on", {}), name=definition.name, bound=chain.bound, expected=expected)
    try:
        with state.engine.rehearsed(task, input) as given:
            passage.call(chain.view, arguments.restored(state.app, given))
    except Arrived as arrived:
        return arrived.alike
    except Exception:
        return False
    return False
