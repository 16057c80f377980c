"""Which tests the installed firebase-admin can run: told by what it has, so that a current one runs them all."""

import pytest


def needs(feature):
    """Skip a test where the installed firebase-admin lacks a feature."""
    lacking = feature.lacking
    return pytest.mark.skipif(lacking is not None, reason=f"firebase-admin >= {feature.since} is needed: {lacking}")
