"""Settings of the whole suite."""

from hypothesis import settings

# The same examples in every run: a property that fails does so for everybody.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")
