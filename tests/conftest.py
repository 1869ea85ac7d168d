"""Settings of the whole suite."""

import gc
import re
import sys

import pytest
from hypothesis import settings
from listening import logged
from seeding import forget, same_random_state

# The same examples in every run: a property that fails does so for everybody.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

# What the tests import stays, and looking through its half a million objects for garbage, again and again,
# took a tenth of all processor time. So Python looks for none until the tests are collected, and then among
# newer objects alone.
gc.disable()


def pytest_collection_finish():
    """From here on Python looks for garbage among what the tests make, less often than it does by itself."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 10)
    gc.enable()


# A module that trains, exports a trained network or starts programs says so somewhere. Others that take long,
# such as those that build the large networks, bear the mark themselves.
HEAVY = re.compile(
    r"\.fit\(|train_main|mmx_tf\.train\b|calibrated|pretrained|untrained|subprocess|jit_compile|\bgood\b|exported\("
)


def pytest_collection_modifyitems(items):
    """Marks the tests of modules that train: `make test-fast` leaves them out."""
    heavy = {}
    for item in items:
        path = item.path
        if path not in heavy:
            heavy[path] = bool(HEAVY.search(path.read_text()))
        if heavy[path]:
            item.add_marker("heavy")


def pytest_runtest_setup():
    """A test draws the same numbers alone, after others, and in any process."""
    same_random_state()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """So does a fixture that several tests share, whichever of them comes first."""
    if fixturedef.scope != "function":
        same_random_state()


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Networks and traced steps go with the module that made them: all together they would be gigabytes."""
    yield
    if keras := sys.modules.get("tf_keras"):
        keras.backend.clear_session()
        forget()
        gc.collect()
        # What is still there will stay, and is not looked through behind each module that follows.
        gc.freeze()


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's handwritten digits on 16x16 pixels."""
    from mmx_tf import data

    return data.load("digits", image_size=16)


@pytest.fixture
def warnings():
    """The messages of level WARNING that a test logs."""
    with logged() as lines:
        yield lines


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A float network that fits; tests of flags, data and workdirs start from it."""
    from networks import small_network

    path = tmp_path_factory.mktemp("float") / "good.keras"
    small_network().save(path)
    return path


@pytest.fixture(scope="session")
def float_file(digits, tmp_path_factory):
    """A small network that is trained a little on digits, as a .keras file."""
    from networks import pretrained

    path = tmp_path_factory.mktemp("float") / "float.keras"
    pretrained(digits).save(path)
    return path


@pytest.fixture(scope="module")
def without_onednn():
    """For programs that a module starts: oneDNN's sums differ from process to process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        yield


@pytest.fixture(scope="session")
def browser():
    """A browser without a window, where this machine has one."""
    from browser import missing, started

    if reason := missing():
        pytest.skip(reason)
    with started() as found:
        yield found
