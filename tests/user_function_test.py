"""Datasets that a function of the user's returns: what it may return, and what is said where it does not."""

import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from mmx_tf import data as datasets
from mmx_tf.data import kinds
from mmx_tf.errors import DamagedDataError, DataError

HEAD = """
    import numpy as np
    import tensorflow as tf

    X = np.random.default_rng(0).normal(size=(90, 12, 2)).astype(np.float32)
    Y = np.arange(90) % 3

    def of(x, y):
        return tf.data.Dataset.from_tensor_slices((x, y))

    def halves(x=X, y=Y):
        return of(x[:60], y[:60]), of(x[60:], y[60:])
"""


@pytest.fixture
def function(tmp_path, monkeypatch):
    """Writes a module of the user's in the current folder, and gives the name of the dataset."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(body):
        sys.modules.pop("own_data", None)
        text = textwrap.dedent(HEAD) + "\n\ndef made():\n" + textwrap.indent(textwrap.dedent(body), "    ")
        (tmp_path / "own_data.py").write_text(text)
        return "module:own_data:made"

    yield write
    sys.modules.pop("own_data", None)


def all_of(dataset):
    examples, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(examples), np.concatenate(labels)


X = np.random.default_rng(0).normal(size=(90, 12, 2)).astype(np.float32)
LAST = {
    "arrays": "return halves()",
    "names": "return (*halves(), ['a', 'b', 'c'])",
    "one-hot": "return halves(y=np.eye(3)[Y])",
    "bytes": "return halves(y=Y.astype(np.uint8)[:, None])",
    "generator": """
        spec = tf.TensorSpec([12, 2], tf.float32), tf.TensorSpec([], tf.int64)
        make = lambda a, b: tf.data.Dataset.from_generator(lambda: zip(X[a:b], Y[a:b]), output_signature=spec)
        return make(0, 60), make(60, 90)
    """,
}


@pytest.mark.parametrize("case", LAST)
def test_examples_are_given_as_they_are(function, case, warnings):
    data = datasets.load(function(LAST[case]))
    assert (data.image_shape, data.train_images, data.eval_images) == ((12, 2), 60, 30)
    assert data.class_names == (("a", "b", "c") if case == "names" else ("0", "1", "2"))
    examples, labels = all_of(data.evaluation(batch_size=8))
    np.testing.assert_array_equal(examples, X[60:])
    np.testing.assert_array_equal(labels, np.arange(60, 90) % 3)
    assert labels.dtype == np.int32
    whole = list(data.train(batch_size=20, seed=1).as_numpy_iterator())
    assert len(np.unique(np.concatenate([one for one, _ in whole]), axis=0)) == 60
    rest = list(data.train(batch_size=20, seed=1, skip_batches=2).as_numpy_iterator())
    part = list(data.train(batch_size=20, seed=1, part=(1, 2)).as_numpy_iterator())
    np.testing.assert_array_equal(rest[0][0], whole[2][0])
    np.testing.assert_array_equal(part[0][0], whole[0][0][10:])
    assert not warnings


def test_pixels_numbers_and_examples_as_their_own_labels(function):
    data = datasets.load(function("return halves(x=np.uint8(X * 20 + 100), y=X[:, 0])"))
    assert (data.labels.shape, data.pixel_scaling) == ((2,), datasets.PIXEL_SCALING)
    examples, _ = next(iter(data.train(batch_size=60, seed=0)))
    pixels = np.rint((examples.numpy() + 1) * 127.5)
    assert set(map(bytes, np.uint8(pixels))) == set(map(bytes, np.uint8(X[:60] * 20 + 100)))
    own = datasets.load(function("return halves(y=X)"))
    assert own.reconstructs and own.labels.shape == (12, 2)


def test_a_dataset_is_known_again_by_its_first_examples(function):
    versions = [
        datasets.load(function(body), seed=seed).source.version
        for body, seed in (
            ("return halves()", 0),
            ("return halves(X * 1)", 1),
            ("return halves(X * 2)", 0),
            ("train, test = halves(); return train.shuffle(60, reshuffle_each_iteration=False), test", 0),
            ("train, test = halves(); return train.shuffle(60, reshuffle_each_iteration=False), test", 0),
            ("train, test = halves(); return train.shuffle(60, reshuffle_each_iteration=False), test", 2),
        )
    ]
    assert versions[0] == versions[1] != versions[2]
    assert versions[3] == versions[4] != versions[5]
    assert len(set(versions)) == 4


def test_training_examples_that_change_are_a_warning(function, warnings):
    body = "train, test = halves(); return train.shuffle(60), test"
    first, second = (datasets.load(function(body)).source.version for _ in range(2))
    assert first == second
    assert "training examples change each time they are read" in warnings[0]


REFUSED = {
    "an error": ("return halves(unknown)", "has failed with NameError: .*own_data.py, line 16"),
    "an end": ("import sys; sys.exit(3)", "has failed with SystemExit: 3"),
    "an argument": ("return (lambda a: a)()", "TypeError: .* missing 1 required .*called without arguments"),
    "one dataset": ("return halves()[0]", "must return .train, evaluation. or"),
    "arrays": ("return X, Y", "returns ndarray, ndarray; it must return"),
    "names as a text": ("return (*halves(), 'abc')", "class_names 'abc'; they must be a list of texts"),
    "examples alone": (
        "return tuple(one.map(lambda x, y: x) for one in halves())", "each must be a pair .x, y."
    ),
    "batches": ("return tuple(one.batch(8) for one in halves())", r"return dataset.unbatch\(\)"),
    "without end": ("train, test = halves(); return train.repeat(), test", "never ends: .*without repeat"),
    "nothing": ("train, test = halves(); return train.take(0), test", "its training dataset is empty"),
    "two inputs": (
        "return tuple(one.map(lambda x, y: ({'a': x, 'b': x}, y)) for one in halves())",
        "x of its training dataset is .*one tensor is needed",
    ),
    "texts": ("return halves(x=X.astype(str))", "x of its training dataset is of type object"),
    "numbers": ("return halves(x=X[:, 0, 0])", r"has the shape \(\); \(features,\)"),
    "two shapes": ("return of(X[:60], Y[:60]), of(X[60:, :4], Y[60:])", "must have the same shapes"),
    "NaN": ("X[5] = np.nan; return halves()", "its training example 5 holds NaN"),
    "other ones": ("train, test = halves(); return train, test.shuffle(30)", "change when they are read"),
    "a label": ("return (*halves(), ['a', 'b'])", "label 2, and classes are 0 to 1 .its class_names."),
    "shapes": (
        """
        spec = tf.TensorSpec([None, 2], tf.float32), tf.TensorSpec([], tf.int64)
        make = lambda: tf.data.Dataset.from_generator(
            lambda: zip([X[0], X[0, :5]], Y), output_signature=spec
        )
        return make(), make()
        """,
        r"if it is batched, return dataset.unbatch\(\); else give all examples one shape",
    ),
    "a generator that fails": (
        """
        spec = tf.TensorSpec([12, 2], tf.float32), tf.TensorSpec([], tf.int64)
        def broken():
            yield X[0], 1
            raise OSError("the disk is gone")
        make = lambda: tf.data.Dataset.from_generator(broken, output_signature=spec)
        return make(), make()
        """,
        r"its training dataset cannot be read: OSError: the disk is gone$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_dataset_is_refused(function, case):
    body, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        datasets.load(function(body))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("module:", "is not module:NAME:FUNCTION"),
        ("module:own_data", "is not module:NAME:FUNCTION"),
        ("module:own_data.py:made", "is not module:NAME:FUNCTION"),
        ("module:folder/own_data:made", "is not module:NAME:FUNCTION"),
        ("module:nowhere_at_all:made", "there is no module 'nowhere_at_all' in the folder"),
        ("module:own_data:other", "has no function 'other'"),
        ("module:own_data:X", "has no function 'X'"),
        ("module:own_data.inner:made", "has failed with ModuleNotFoundError"),
    ],
)
def test_functions_that_are_not_there_are_refused(function, name, message):
    function("return halves()")
    with pytest.raises(DataError, match=message):
        kinds.check(name, data_dir="")
        datasets.load(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [("X[70] = np.inf", "an example holds NaN"), ("Y[70] = 5", "a label is not one of 0 to 2: 5")],
)
def test_what_is_wrong_behind_the_first_examples_is_found_when_it_is_read(function, change, message):
    body = f"{change}; return of(X, Y), of(X[:30], Y[:30]), ['a', 'b', 'c']"
    data = datasets.load(function(body))
    with pytest.raises(DamagedDataError, match=message), data.reading_errors():
        for _ in data.train(batch_size=8, seed=0):
            pass


def test_errors_that_are_none_of_the_datas_pass_through(function):
    data = datasets.load(function("return halves()"))
    with pytest.raises(tf.errors.InvalidArgumentError), data.reading_errors():
        tf.debugging.assert_equal(1, 2)
