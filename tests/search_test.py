"""Algorithm 1 on real digits: what moves in which step, what is logged, what is refused."""

import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import small_network

import mmx_tf
from mmx_tf.layers.branches import MIXED
from mmx_tf.layers.fusion import initialize_before_tracing
from mmx_tf.layers.lsq.lsq import STEP_SIZE_FLOOR
from mmx_tf.notation import amount
from tests import alphas

BITS = (8, 4, 3)


@pytest.fixture(scope="module")
def batch(digits):
    return next(iter(digits.train(batch_size=32, seed=0)))


def compiled(search, **kwargs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    search.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9), loss=loss, metrics=["accuracy"], **kwargs
    )
    return search


def values(variables):
    return [variable.numpy().copy() for variable in variables]


def moved(before, variables):
    return [not np.array_equal(old, new.numpy()) for old, new in zip(before, variables, strict=True)]


@pytest.fixture
def search():
    keras.utils.set_random_seed(3)
    return compiled(mmx_tf.augment(small_network(), bit_widths=BITS, target_average_bits=4.0))


def test_meta_step_moves_weights_step_sizes_and_statistics_but_not_alpha(search, batch):
    search(batch[0], branch=0)
    weights, steps = values(search.meta_weights), values(search.step_sizes)
    before = alphas.rows(search)
    statistics = values(search.network.non_trainable_variables)
    search.bit_meta_step(*batch)
    assert all(moved(weights, search.meta_weights))
    assert all(moved(steps, search.step_sizes))
    assert any(moved(statistics, search.network.non_trainable_variables))
    assert not any(alphas.moved(before, search))


def test_search_step_moves_alpha_alone_by_not_one_bit_else(search, batch):
    search.bit_meta_step(*batch)
    start = alphas.rows(search)
    others = search.network.variables
    before = values(others)
    optimizers = values(search.optimizer.variables) + values(search.step_optimizer.variables)
    search.bit_search_step(*batch)
    assert all(alphas.moved(start, search))
    assert not any(moved(before, others))
    assert not any(moved(optimizers, search.optimizer.variables + search.step_optimizer.variables))


def test_search_step_computes_no_weight_gradient(search, batch):
    search.bit_meta_step(*batch)
    step = tf.function(lambda images, labels: search.bit_search_step(images, labels), autograph=False)
    step(*batch)
    operations = {node.op for node in step.get_concrete_function(*batch).graph.as_graph_def().node}
    live = _reachable_operations(step.get_concrete_function(*batch).graph)
    assert "Conv2DBackpropInput" in operations
    assert "Conv2DBackpropFilter" not in live
    assert "DepthwiseConv2dNativeBackpropFilter" not in live


def _reachable_operations(graph):
    """Types of the operations that some stateful operation or output depends on: what is not pruned."""
    pending = [op for op in graph.get_operations() if op.op_def.is_stateful]
    pending += [tensor.op for tensor in graph.outputs]
    seen = set()
    while pending:
        operation = pending.pop()
        if operation not in seen:
            seen.add(operation)
            pending += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return {operation.type for operation in seen}


def test_meta_gradient_is_the_mean_over_the_single_bit_width_networks(batch):
    """Plain SGD at learning rate 1 moves every weight by minus the mean of the B gradients (eq. 1)."""
    keras.utils.set_random_seed(4)
    search = mmx_tf.augment(small_network(batch_norm=False), bit_widths=BITS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    search.compile(optimizer=keras.optimizers.SGD(1.0), step_optimizer=keras.optimizers.SGD(1.0), loss=loss)
    images, labels = batch
    search(images, branch=0)
    variables = search.meta_weights + search.step_sizes
    expected = [0.0] * len(variables)
    for branch in range(len(BITS)):
        with tf.GradientTape() as tape:
            value = loss(labels, search(images, training=True, branch=branch))
        gradients = tape.gradient(value, variables, unconnected_gradients="zero")
        expected = [
            e + tf.convert_to_tensor(g).numpy() / len(BITS) for e, g in zip(expected, gradients, strict=True)
        ]
    before = values(variables)
    search.bit_meta_step(images, labels)
    weights = len(search.meta_weights)
    floors = [-np.inf] * weights + [STEP_SIZE_FLOOR] * len(search.step_sizes)
    for old, new, gradient, floor in zip(before, variables, expected, floors, strict=True):
        np.testing.assert_allclose(new.numpy(), np.maximum(old - gradient, floor), rtol=1e-4, atol=1e-6)


def test_alphas_move_by_the_gradient_of_task_loss_and_regularizer_in_training_mode(batch):
    """Eq. 2 to 5 with one weight bit-width: SGD at learning rate 1 moves alpha by minus the gradient."""
    images, labels = batch
    keras.utils.set_random_seed(4)
    search = mmx_tf.augment(
        small_network(), bit_widths=BITS, target_average_bits=4.0, regularizer_weight=0.25
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    search.compile("sgd", loss, alpha_optimizer=keras.optimizers.SGD(1.0))
    search(images, branch=0)
    start = np.float32([[0.3, 0.1, -0.2], [-0.1, 0.2, 0.0], [0.0, 0.0, 0.4]])
    search.alpha.assign(start[np.newaxis])
    gradients = {}
    for part in ("task", "regularizer"):
        alpha = tf.constant(start)
        with tf.GradientTape() as tape:
            tape.watch(alpha)
            if part == "task":
                value = loss(labels, search(images, training=True, branch=MIXED, alpha=alpha))
            else:
                macs, bits = tf.constant([3456.0, 2304.0, 3072.0]), tf.constant([8.0, 4.0, 3.0])
                expected_bits = tf.linalg.matvec(tf.nn.softmax(alpha), bits)
                # Hard bits 8, 4 and 3 exceed the target of 4 on average, so the sign is +.
                value = 0.25 * 4 * tf.reduce_sum(macs * expected_bits) / search.budget.target_bops
        gradients[part] = tape.gradient(value, alpha).numpy()
    assert all(np.abs(gradient).max() > 1e-3 for gradient in gradients.values())
    search.bit_search_step(images, labels)
    found = start - search.alpha.numpy()[0]
    np.testing.assert_allclose(found, gradients["task"] + gradients["regularizer"], rtol=1e-3, atol=1e-6)


def test_running_statistics_are_the_mean_over_the_branches(search, batch):
    images, _ = batch
    search(images, branch=0)
    start = values(search.batch_norm_statistics)
    single = []
    for branch in range(len(BITS)):
        for variable, value in zip(search.batch_norm_statistics, start, strict=True):
            variable.assign(value)
        search(images, training=True, branch=branch)
        single.append(values(search.batch_norm_statistics))
    for variable, value in zip(search.batch_norm_statistics, start, strict=True):
        variable.assign(value)
    search.bit_meta_step(*batch)
    for i, variable in enumerate(search.batch_norm_statistics):
        mean = np.mean([statistics[i] for statistics in single], axis=0)
        np.testing.assert_allclose(variable.numpy(), mean, rtol=1e-5, atol=1e-7)


def test_fit_searches_from_the_second_epoch_and_logs_every_step(search, digits):
    digits = digits.train(batch_size=64, seed=0).take(3)
    logs, seen = [], []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, batch_logs=None):
            logs.append(dict(batch_logs))
            seen.append(search.alpha.numpy())

    search.fit(digits, epochs=2, verbose=0, callbacks=[Record()])
    assert len(logs) == 6
    assert {"loss", "search_loss", "bops", "regularizer", "alpha_entropy", "accuracy"} <= logs[0].keys()
    assert all(not alpha.any() for alpha in seen[:3])
    assert all(alpha.any() for alpha in seen[3:])
    assert logs[0]["alpha_entropy"] == pytest.approx(np.log(3), abs=1e-5)
    # Equal alphas choose the first candidate, 8 bits, in every layer.
    assert logs[0]["bops"] == pytest.approx(search.budget.bops_at(8))


def test_epochs_count_over_several_fits(search, digits):
    digits = digits.train(batch_size=64, seed=0).take(2)
    search.fit(digits, epochs=1, verbose=0)
    assert not np.any(search.alpha.numpy()) and search.finished_epochs == 1
    search.fit(digits, epochs=1, verbose=0)
    assert np.any(search.alpha.numpy()) and search.finished_epochs == 2


def test_training_step_is_traced_once(search, digits):
    digits = digits.train(batch_size=64, seed=0).take(2)
    traces = []
    train_step = search.train_step

    def counted(batch):
        traces.append(1)
        return train_step(batch)

    search.train_step = counted
    search.fit(digits, epochs=3, verbose=0)
    assert len(traces) == 1


def test_regularizer_gradient_by_hand():
    """Zero alphas choose the first candidate; dr/d alpha = (1, -1/3, -2/3) * macs * weight bits / target."""
    search = mmx_tf.augment(small_network(), bit_widths=BITS, weight_bits=4, target_average_bits=4.0)
    with tf.GradientTape() as tape:
        regularizer = search.regularizer()
    (gradients,) = tape.gradient(regularizer, search.alpha)
    budget = search.budget
    assert float(regularizer) == pytest.approx(budget.bops_at(8) / budget.target_bops - 1, rel=1e-6)
    for cost, gradient in zip(budget.searched, gradients, strict=True):
        expected = np.array([1, -1 / 3, -2 / 3]) * cost.macs * 4 / budget.target_bops
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-5)


def test_forward_passes_are_the_three_of_the_paper(search, batch):
    images, _ = batch
    search(images, branch=0)
    alphas.set_rows(search, [-30.0, 30.0, -30.0])
    single = search(images, branch=1)
    np.testing.assert_allclose(search(images, branch=MIXED), single, atol=1e-5)
    np.testing.assert_allclose(search(images), single, atol=1e-6)
    assert np.abs(search(images, branch=2) - single).max() > 1e-3


def test_unreachable_budget_names_the_range():
    with pytest.raises(ValueError, match="out of reach.*takes .* to .* BOPs"):
        mmx_tf.augment(small_network(), bit_widths=BITS, target_bops=1e3)


def test_selection_meets_the_budget_and_repair_can_be_switched_off(search, caplog):
    alphas.set_rows(search, [0.2, 0.1, 0.0])
    raw = search.bit_selection(repair=False)
    assert raw.bops > search.budget.target_bops
    with caplog.at_level("INFO", logger="absl"):
        repaired = search.bit_selection()
    assert "budget repair: " in caplog.text and "8 -> 4 bits (alpha margin 0.1)" in caplog.text
    assert repaired.bops <= search.budget.target_bops
    assert repaired.target_bops == search.budget.target_bops
    unused = 100 * (1 - repaired.bops / repaired.target_bops)
    took, to, target = (amount([bops], "BOPs") for bops in (raw.bops, repaired.bops, repaired.target_bops))
    assert f"took {took} to {to} (budget {target}, {unused:.2f}% of" in caplog.text


def test_saves_and_loads_as_keras_and_searches_on(search, batch, tmp_path):
    search.bit_meta_step(*batch)
    search.bit_search_step(*batch)
    search.save(tmp_path / "search.keras")
    loaded = mmx_tf.load_model(tmp_path / "search.keras")
    np.testing.assert_array_equal(loaded(batch[0]), search(batch[0]))
    np.testing.assert_array_equal(loaded.alpha.numpy(), search.alpha.numpy())
    assert loaded.budget == search.budget
    assert loaded.bit_selection() == search.bit_selection()
    compiled(loaded).bit_meta_step(*batch)


def test_step_sizes_are_set_before_a_step_is_traced_and_nothing_else_moves(search, batch):
    statistics = values(search.batch_norm_statistics)
    weights = values(search.meta_weights)
    initialize_before_tracing(search, search.network, tf.data.Dataset.from_tensors(batch), branch=0)
    assert all(bool(tf.reduce_all(q.initialized)) for q in search.quantizers.values())
    assert not any(moved(statistics, search.batch_norm_statistics) + moved(weights, search.meta_weights))
    steps = values(search.step_sizes)
    initialize_before_tracing(search, search.network, 9 * batch[0], branch=0)
    assert not any(moved(steps, search.step_sizes))
    graph = tf.function(search.train_step).get_concrete_function(batch).graph
    names = [node.name for node in graph.as_graph_def().node]
    assert not [name for name in names if "input_quantizer/cond" in name]


def test_a_search_of_another_version_is_refused_with_what_to_do(search, tmp_path):
    """As mmx_tf 0.1.0 saved it: the search itself has no alpha."""
    search.save(tmp_path / "search.keras")
    with zipfile.ZipFile(tmp_path / "search.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "weights.h5").write_bytes(members["model.weights.h5"])
    with h5py.File(tmp_path / "weights.h5", "r+") as file:
        own = file["vars"]
        del own[max(own, key=int)]
    members["model.weights.h5"] = (tmp_path / "weights.h5").read_bytes()
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="was saved by an earlier version of mmx_tf.*or search anew"):
        mmx_tf.load_model(tmp_path / "old.keras")
