"""Pages that are left, and come back: the next page of the site works, whatever the last one was doing."""

import pytest

from tests.system.browser.conftest import visit

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_a_page_that_is_left_in_the_middle_of_a_task_leaves_the_next_one_its_storage(site, network, open_page, gate):
    page = open_page()
    page.submit(gate=gate)
    page.accepted()
    for step in (1, 2):
        site.let(gate, step)
        page.sees_step("Write" if step == 1 else "Draw")
        page = visit(page.page, network, pollInterval=200 + step)  # another address: the one that is left is kept

    site.finish(gate)
    page.sees_outcome()
    page.submit(gate=gate)
    assert page.accepted()
