"""Run as a program: the training phases of a small network under --strategy, and what they leave.

    python tests/strategy_run.py LOGICAL_CPUS FLOAT.keras --strategy=mirrored --workdir=DIR

It writes DIR.npz with all variables after each phase, and DIR.json with the bit selection. How TensorFlow's
devices are cut up is fixed for a process, so each run has one of its own.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLAGS = """\
--float_epochs=1
--float_learning_rate=0.02
--dataset=digits
--image_size=16
--batch_size=64
--steps_per_epoch=3
--select_epochs=2
--train_epochs=1
--folded_epochs=1
--learning_rate=0.01
--ema_decay=0.5
--teacher=float
--label_smoothing=0.1
--candidate_bits=8,5
--weight_bits=8
--target_average_bits=6.5
--eval_images=100
--checkpoint_minutes=0
"""


def main(cpus: int, float_network: str, flags: list[str]) -> None:
    import mmx_tf  # isort: skip (sets what TensorFlow reads)
    import numpy as np
    import tensorflow as tf

    from mmx_tf import data, rebuild
    from mmx_tf.distribution import strategies
    from mmx_tf.recipe.recipe import Recipe
    from mmx_tf.run import phases, stages
    from mmx_tf.workdir.workdir import Workdir

    if cpus > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpus)
    recipe = Recipe.from_flagfile(FLAGS + "\n".join(flags))
    recipe.validate()
    job = strategies.start(recipe)
    digits = data.load("digits", image_size=16)
    left = {}

    def keep(phase, network):
        for index, variable in enumerate(network.variables):
            left[f"{phase}/{index:03}/{variable.name}"] = variable.numpy()

    with Workdir.opened(recipe, job) as workdir, job.peer_errors():
        network = mmx_tf.load_model(float_network)
        stages.seed(recipe, "float")
        phases.train_float(workdir, recipe, digits, network)
        keep("float", network)
        search = mmx_tf.augment(
            network,
            bit_widths=recipe.candidate_bits,
            weight_bits=recipe.weight_bits,
            target_average_bits=recipe.target_average_bits,
            regularizer_weight=recipe.regularizer_weight,
        )
        phases.train_search(workdir, recipe, digits, search)
        keep("select", search)
        selection = search.bit_selection()
        fixed = rebuild(search, selection)
        phases.train_fixed(workdir, recipe, digits, fixed, teacher=network)
        keep("train", fixed)
        if job.is_chief:
            np.savez(f"{recipe.workdir}.npz", **left)
            selection.save(f"{recipe.workdir}.json")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
