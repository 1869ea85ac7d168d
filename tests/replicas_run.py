"""Run as a program: layers on a batch that two replicas share; writes what they give as .npz.

    python tests/replicas_run.py OUT.npz

The cases are those of `CASES`; `tests/replicas_test.py` computes them on the whole batch in one piece.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
BATCH = 8


def inputs(shape, seed=0):
    """Numbers whose means differ from row to row, so that each part has statistics of its own."""
    rng = np.random.default_rng(seed)
    rows = np.arange(BATCH, dtype=np.float32).reshape(BATCH, *[1] * (len(shape)))
    return (rng.normal(3.0, 1.0, (BATCH, *shape)) + rows).astype(np.float32)


def batch_norm_case(shape):
    """() -> (network on inputs of a shape, its trainable variables, its statistics)."""
    import tf_keras as keras

    from mmx_tf.layers.batch_norm import BatchNormalization

    layer = BatchNormalization(momentum=0.5, gamma_initializer=keras.initializers.Constant(1.5))
    layer.build((None, *shape))
    return layer, [layer.gamma, layer.beta], [layer.moving_mean, layer.moving_variance]


def quantized_case():
    """Batch norm, ReLU and a quantizer that takes both over."""
    import tf_keras as keras

    from mmx_tf.layers.quantizers.activation import ActivationQuantizer

    norm, variables, statistics = batch_norm_case((16, 16, 8))
    quantizer = ActivationQuantizer(bits=4, signed=False)
    quantizer.build((None, 16, 16, 8))
    quantizer.set_step_size(0.21)
    rectify = keras.layers.ReLU()

    def network(x, training):
        return quantizer(rectify(norm(x, training=training)))

    return network, [*variables, quantizer.step_size], statistics


CASES = {
    "compiled": ((16, 16, 8), lambda: batch_norm_case((16, 16, 8))),
    "small": ((2, 2, 3), lambda: batch_norm_case((2, 2, 3))),
    "vectors": ((5,), lambda: batch_norm_case((5,))),
    "quantized": ((16, 16, 8), quantized_case),
}


def step(case, x, weights):
    """Outputs and gradients of sum(outputs * weights) for x and the variables; statistics move."""
    import tensorflow as tf

    network, variables, _ = case
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = network(x, training=True)
        loss = tf.reduce_sum(outputs * weights)
    return outputs, tape.gradient(loss, [x, *variables])


def main(path: str) -> None:
    import mmx_tf  # noqa: F401, I001 (sets what TensorFlow reads)
    import tensorflow as tf

    from mmx_tf.layers.lsq import lsq
    from mmx_tf.layers import replicas

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found = {}

    def of(values):
        return [value.numpy() for value in strategy.experimental_local_results(values)]

    for name, (shape, make) in CASES.items():
        with strategy.scope():
            case = make()
        both = [np.split(inputs(shape, seed), 2) for seed in (0, 1)]
        parts = [
            strategy.experimental_distribute_values_from_function(
                lambda context, halves=halves: tf.constant(halves[context.replica_id_in_sync_group])
            )
            for halves in both
        ]

        @tf.function(autograph=False)
        def run(x, weights, case=case):
            def on_replica(x, weights):
                outputs, gradients = step(case, x, weights)
                context = tf.distribute.get_replica_context()
                # As an optimizer does with those of variables.
                return outputs, gradients[:1] + context.all_reduce("SUM", gradients[1:])

            return strategy.run(on_replica, args=(x, weights))

        outputs, gradients = run(*parts)
        found[f"{name}/outputs"] = np.concatenate(of(outputs))
        found[f"{name}/x"] = np.concatenate(of(gradients[0]))
        for index, gradient in enumerate(gradients[1:]):
            found[f"{name}/variable {index}"] = of(gradient)[0]
        for index, variable in enumerate(case[2]):
            found[f"{name}/statistics {index}"] = variable.numpy()
            values = of(variable)
            assert np.array_equal(*values), (name, values)

    @tf.function(autograph=False)
    def limited():
        def on_replica():
            context = tf.distribute.get_replica_context()
            rank = tf.cast(context.replica_id_in_sync_group, tf.float32)
            # Upstream gradients 0.3 and 0.4 on the replicas of a step size of 0.5.
            with tf.GradientTape() as tape:
                step_size = tf.constant(0.5)
                tape.watch(step_size)
                loss = lsq.limit_shrinking(step_size) * (0.3 + 0.1 * rank)
            gradient = tape.gradient(loss, step_size)
            zero = tf.constant(0.0)
            total = replicas.in_turn(
                3, lambda i, total: (i + 1, total + replicas.summed(1.0 + rank)), (zero,)
            )
            return context.all_reduce("SUM", gradient), total[0], tf.constant(replicas.count())

        return strategy.run(on_replica)

    limit, total, count = limited()
    np.savez(path, **found, limit=of(limit), total=of(total), count=of(count), **decayed(strategy))


def decayed(strategy) -> dict:
    """A kernel and a bias of 2 after each of two steps; of their gradient of 1 each replica has half."""
    import tensorflow as tf

    from mmx_tf.training.optimizers import sgd

    found = {}
    for kind in ("decoupled", "l2"):
        with strategy.scope():
            kernel, bias = (tf.Variable(2.0, name=f"layer/{name}") for name in ("kernel", "bias"))
            decay = {"weight_decay": 0.5, "weight_decay_kind": kind}
            optimizer = sgd([kernel, bias], 0.1, momentum=0.9, nesterov=False, **decay)
            optimizer.build([kernel, bias])

        @tf.function(autograph=False)
        def step(optimizer=optimizer, variables=(kernel, bias)):
            strategy.run(lambda: optimizer.apply_gradients([(tf.constant(0.5), v) for v in variables]))

        for index in range(2):
            step()
            values = [strategy.experimental_local_results(v) for v in (kernel, bias)]
            found[f"{kind} {index}"] = np.array(values)
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1])
