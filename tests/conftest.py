"""Settings of the whole suite."""

import pytest
from hypothesis import settings

# The same examples in every run: a property that fails does so for everybody.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's handwritten digits on 16x16 pixels."""
    from mmx_tf import data

    return data.load("digits", image_size=16)
