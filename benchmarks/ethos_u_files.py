"""The files that `benchmarks.ethos_u` compares: a network in plain int8, and ours with fewer weight bits.

    make(pathlib.Path("files"), float_model, data, weight_bits=[8, 4, 3, 2], ...)   # int8.tflite, w8.tflite

How far a compiler packs weights depends on their distribution, so every network is trained: from the float
network's weights, on its own data, all searched activations at the same bits.
"""

import json
import pathlib

import numpy as np
import tf_keras as keras

import mmx_tf
from benchmarks.folded_training import compared, fitted, fixed_network
from mmx_tf.export.atomic import write_atomically
from mmx_tf.run.int8_baseline import int8_baseline
from mmx_tf.training.optimizers import cosine_schedule, sgd

BATCH_SIZE = 64
CALIBRATION_IMAGES = 128
REFERENCE = "int8"
"""Name of the plain post-training file, to which the others are compared."""


def make(
    folder: pathlib.Path,
    float_model: keras.Model,
    data,
    *,
    weight_bits: list[int],
    activation_bits: int,
    steps: int,
    learning_rate: float,
    eval_images: int,
) -> None:
    """Writes `int8.tflite`, and for each weight bit-width its `wN.tflite` and `wN.json` with its top-1.

    Args:
      folder: made if it is not there; what is there of these files stays and is not made again.
      float_model: a trained network, (B, height, width, channels) -> (B, classes).
      data: the images that it was trained on (`mmx_tf.data.load`).
      weight_bits: of all layers but the first and the last, which have 8.
      activation_bits: of all searched layers.
      steps: of weight training, at a learning rate that falls to zero along a cosine.
      learning_rate: of the first step.
      eval_images: on which top-1 is measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    evaluation = data.evaluation(batch_size=BATCH_SIZE, limit=eval_images)
    reference = folder / f"{REFERENCE}.tflite"
    if not reference.exists():
        batches = data.train(batch_size=CALIBRATION_IMAGES, seed=0)
        images, _ = next(iter(batches))
        write_atomically(reference, int8_baseline(float_model, np.asarray(images)))
        print(reference, flush=True)
    for bits in weight_bits:
        path = folder / f"w{bits}.tflite"
        if path.exists():
            continue
        fixed = fixed_network(
            float_model,
            data,
            weight_bits=bits,
            activation_bits=activation_bits,
            batch_size=BATCH_SIZE,
            seed=0,
        )
        schedule = cosine_schedule(learning_rate, steps=steps)
        optimizer = sgd(fixed.trainable_variables, schedule, momentum=0.9, nesterov=True, weight_decay=1e-5)
        fitted(fixed, optimizer, data.train(batch_size=BATCH_SIZE, seed=0).repeat().take(steps))
        top1 = compared(fixed, "int8", evaluation)
        fixed.save(folder / f"w{bits}.keras")
        write_atomically(folder / f"w{bits}.json", json.dumps(top1) + "\n")
        write_atomically(path, mmx_tf.convert(mmx_tf.fold(fixed), input_type="int8"))
        print(path, top1, flush=True)
