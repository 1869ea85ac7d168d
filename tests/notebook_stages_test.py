"""Calls at the wrong stage in a notebook: one sentence or two that say which comes next."""

import os
import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from notebook_stages import CROSSENTROPY, SAME, stages_of, tiny_network, told, uncompiled, with_nan

import mmx_tf

STAGES = {
    "augment of no network": (lambda s: mmx_tf.augment(7), "got .*int.*tf_keras"),
    "augment of no file": (lambda s: mmx_tf.augment("nowhere.keras"), "no file 'nowhere.keras'"),
    "augment of what cannot be exported": (
        lambda s: mmx_tf.augment(tiny_network("log_softmax"), target_average_bits=4),
        "'odd' .Activation. cannot be folded.*allow_unexportable=True",
    ),
    "augment with a misspelt argument": (
        lambda s: mmx_tf.augment(s.float_model, weight_bit=4), "no argument 'weight_bit'.*weight_bits",
    ),
    "augment with text for numbers": (
        lambda s: mmx_tf.augment(s.float_model, regularizer_weight="1"), "regularizer_weight='1': a number",
    ),
    "augment with text for a switch": (
        lambda s: mmx_tf.augment(s.float_model, signed={"middle": "no"}), "'middle'.='no': True or False",
    ),
    "augment with a list of costs": (
        lambda s: mmx_tf.augment(s.float_model, cost_table=[1], target_cost=1), "cost_table is a list.*dict",
    ),
    "convert with one text as labels": (
        lambda s: mmx_tf.convert(s.folded, labels="0123456789"), "labels='0123456789': a list",
    ),
    "an activity regularizer behind an activation": (
        lambda s: mmx_tf.augment(regularized_network()), "'odd' .Conv2D. has an activity_regularizer, which",
    ),
    "a loss added by the network": (lambda s: mmx_tf.augment(network_with_a_loss()), "cannot be handled"),
    "one switch for all layers": (
        lambda s: mmx_tf.augment(s.float_model, signed=True), "signed=True: a dict, layer name",
    ),
    "bits that cannot be": (
        lambda s: mmx_tf.count_bops(s.float_model, weight_bits=2.5), "weight_bits=2.5: .*integer in 1..32",
    ),
    "a selection from its numbers": (
        lambda s: mmx_tf.BitSelection.load(s.selection.to_json()), "got a dict: give the path.*from_json",
    ),
    "convert with a budget below zero": (
        lambda s: mmx_tf.convert(s.folded, target_bops=-3), "target_bops=-3: a number",
    ),
    "a number as an optimizer": (
        lambda s: s.search.compile("sgd", CROSSENTROPY, step_optimizer=0.01), "step_optimizer=0.01: give",
    ),
    "training of a folded network": (
        lambda s: s.folded.fit(s.images, s.labels), "nothing to train.*fold_for_training",
    ),
    "an optimizer of another network": (
        lambda s: with_the_optimizer_of_its_search(s).fit(s.images, s.labels),
        "SGD has trained another network.*Give compile a new one",
    ),
    "a frozen search": (lambda s: frozen(s).fit(s.images, s.labels), "trainable is False, but a search"),
    "convert with a list among the labels": (
        lambda s: mmx_tf.convert(s.folded, labels=[["a"], None]), r"labels hold \['a'\]: a name is a text",
    ),
    "an average beyond the candidates": (
        lambda s: mmx_tf.augment(s.float_model, bit_widths=(8, 4), target_average_bits=3),
        "target_average_bits=3 is out of reach: with candidates .8, 4. the average is 4 to 8 bits",
    ),
    "a selection saved into no folder": (
        lambda s: s.selection.save(s.folder / "nowhere" / "bits.json"), "no such folder to write.*nowhere'",
    ),
    "NaN images in a folded network": (
        lambda s: s.folded.predict(with_nan(s.images), verbose=0), "images hold NaN or infinite values",
    ),
    "convert with text as budget": (
        lambda s: mmx_tf.convert(s.folded, target_bops="5G"), "target_bops='5G': a number",
    ),
    "verify with text as a number": (
        lambda s: mmx_tf.verify(s.folded, s.file, [], traced_images="all"), "traced_images='all': an integer",
    ),
    "rebuild of a float network": (
        lambda s: mmx_tf.rebuild(s.float_model, s.selection), "rebuild got .*'tiny'.*mmx_tf.augment",
    ),
    "rebuild of a fixed network": (
        lambda s: mmx_tf.rebuild(s.fixed, s.selection), "rebuild got FixedNetwork.*mmx_tf.fold",
    ),
    "rebuild with bits": (lambda s: mmx_tf.rebuild(s.search, 4), "type int.*bit_selection"),
    "rebuild with no file": (lambda s: mmx_tf.rebuild(s.search, "bits.json"), "no file.*bits.json"),
    "fold of a search": (lambda s: mmx_tf.fold(s.search), "fold got SearchModel.*rebuild"),
    "fold of a float network": (lambda s: mmx_tf.fold(s.float_model), "fold got .*mmx_tf.augment"),
    "fold of the folded graph": (
        lambda s: mmx_tf.fold(mmx_tf.fold_for_training(s.fixed)), "made to train it. Fold that network",
    ),
    "NaN images before any other": (
        lambda s: s.untouched.predict(with_nan(s.images)), "NaN or infinite.*would set the step sizes",
    ),
    "one optimizer for all": (
        lambda s: s.search.compile(SAME, CROSSENTROPY, step_optimizer=SAME), "given twice.*object for each",
    ),
    "load of no path": (lambda s: mmx_tf.load_model(None), "got a NoneType: give the path"),
    "count of a fixed network": (lambda s: mmx_tf.count_bops(s.fixed), "has quantizers.*selection.bops"),
    "fold without quantized weights": (
        lambda s: mmx_tf.fold(mmx_tf.rebuild(s.search, s.selection, quantized_weights=False)),
        "its weights are not: call mmx_tf.rebuild",
    ),
    "augment of a search": (
        lambda s: mmx_tf.augment(s.search, target_average_bits=6), "takes a float network.*mmx_tf.rebuild",
    ),
    "augment of a fixed network": (
        lambda s: mmx_tf.augment(s.fixed, target_average_bits=6), "takes a float network.*mmx_tf.fold",
    ),
    "fold of a folded network": (lambda s: mmx_tf.fold(s.folded), "fold got.*folded already"),
    "fold of what has seen no image": (
        lambda s: mmx_tf.fold(s.untouched), "seen no image.*fixed.fit.*fixed.predict",
    ),
    "convert of a search": (lambda s: mmx_tf.convert(s.search), "convert got SearchModel.*rebuild"),
    "convert of a float network": (lambda s: mmx_tf.convert(s.float_model), "convert got .*mmx_tf.augment"),
    "verify with no file": (lambda s: mmx_tf.verify(s.folded, "x.tflite", []), "no file 'x.tflite'"),
    "verify with a network": (lambda s: mmx_tf.verify(s.folded, s.folded, []), "bytes that convert"),
    "verify of a fixed network": (lambda s: mmx_tf.verify(s.fixed, s.file, []), "fold"),
}  # fmt: skip


@pytest.fixture(scope="module")
def stages(digits, tmp_path_factory):
    return stages_of(digits, tmp_path_factory.mktemp("notebook"))


def regularized_network():
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu", activity_regularizer="l2", name="odd")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 1)(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def network_with_a_loss():
    network = tiny_network()
    network.add_loss(0.01 * tf.reduce_mean(network.layers[1].output))
    return network


def with_the_optimizer_of_its_search(stages):
    fixed = mmx_tf.rebuild(stages.search, stages.selection)
    fixed.compile(stages.search.optimizer, CROSSENTROPY)
    return fixed


def frozen(stages):
    search = uncompiled(stages.search, stages)
    search.compile("sgd", CROSSENTROPY)
    search.trainable = False
    return search


@pytest.mark.parametrize(("action", "expected"), STAGES.values(), ids=STAGES)
def test_a_call_at_the_wrong_stage_says_which_comes_next(action, expected, stages):
    with pytest.raises((ValueError, TypeError, OSError, tf.errors.InvalidArgumentError)) as error:
        action(stages)
    assert re.search(expected, told(error))


def test_what_is_a_path_is_loaded(stages, digits):
    network, bits, file = (str(stages.folder / name) for name in ("float.keras", "bits.json", "x.tflite"))
    fixed = stages.folder / "fixed.keras"
    stages.float_model.save(network)
    stages.selection.save(bits)
    stages.fixed.save(fixed)
    with open(file, "wb") as out:
        out.write(stages.file)
    search = mmx_tf.augment(network, bit_widths=(8, 4), target_average_bits=6)
    for selection in (bits, stages.selection.to_json()):
        assert mmx_tf.rebuild(search, selection).count_params() == stages.fixed.count_params()
    assert mmx_tf.convert(os.fspath(fixed)) == mmx_tf.convert(stages.fixed)
    assert mmx_tf.verify(stages.folded, file, digits.evaluation(batch_size=64, limit=64)).eval_images == 64


def test_kerass_own_load_model_reads_files_of_every_stage(stages):
    for name in ("search", "fixed", "folded"):
        path = stages.folder / f"{name}.keras"
        getattr(stages, name).save(path)
        loaded = keras.models.load_model(path)
        np.testing.assert_array_equal(
            loaded(stages.images[:4]).numpy(), getattr(stages, name)(stages.images[:4]).numpy()
        )
