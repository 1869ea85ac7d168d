"""The plain int8 file of a float network: what to compare size, speed and accuracy with.

This is post-training quantization by AI Edge Quantizer, LiteRT's own tool: 8-bit activations calibrated on
sample images, 8-bit weights, nothing trained. It is the kind of file that most devices run today, hence the
reference of every run's report and of the benchmarks:

    data = int8_baseline(float_model, images)
    quality = judged_file(data, task="classification", head=head, evaluation=evaluation)
"""

import contextlib
import io
import warnings
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

from mmx_tf.export.comparing.heads import Head, labels_of
from mmx_tf.export.comparing.quality import Quality
from mmx_tf.export.running import litert


def int8_baseline(model: keras.Model, images: np.ndarray) -> bytes:
    """Quantizes a float model to int8 after training.

    Args:
      model: a float Keras model with one input.
      images: calibration images as the model takes them, shape `(n, *model.input_shape[1:])`; 100 to 500 that
        look like the images to come are usual.

    Returns:
      The contents of a .tflite file without a float tensor.

    Raises:
      ValueError: `images` is empty or does not fit the model's input.
    """
    images = np.asarray(images, np.float32)
    expected = tuple(model.input_shape[1:])
    fits = images.ndim == len(expected) + 1 and all(
        want in (None, have) for want, have in zip(expected, images.shape[1:], strict=True)
    )
    if not len(images) or not fits:
        raise ValueError(
            f"calibration images of shape {images.shape} do not fit the model's input; give at "
            f"least one, shape (n, {', '.join(map(str, expected))})."
        )
    float_file = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    runner = Interpreter(model_content=float_file).get_signature_runner("serving_default")
    (name,) = runner.get_input_details()
    silent = io.StringIO()
    # Both report their progress; LiteRT warns of tensors that are kept, which calibration is there for.
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tool = quantizer.Quantizer(float_file, recipe.static_wi8_ai8())
        statistics = tool.calibrate({"serving_default": [{name: image[None]} for image in images]})
        return bytes(tool.quantize(statistics).quantized_model)


def judged_file(data: bytes, *, task: str, head: Head, evaluation: Iterable) -> dict[str, float | None]:
    """The metrics of a task (`export.comparing.quality`) of a .tflite with one input and one output.

    Args:
      data: bytes of the file; its input and output are codes on grids of their own, or floats.
      task: one of `export.comparing.heads.TASKS`.
      head: of the network that the file was made from.
      evaluation: batches of (images as that network takes them, labels).
    """
    runner = litert.Runner(data)
    ((name, given),), ((output, found),) = runner.inputs.items(), runner.outputs.items()
    quality = Quality(task, from_logits=head.activation is None)
    for images, labels in evaluation:
        codes = runner({name: _codes(np.asarray(images, np.float32), given)})[output]
        scale, zero_point = found["quantization"]
        values = (codes.astype(np.float32) - zero_point) * scale if scale else codes
        quality.add(values.reshape(-1, *head.shape), labels_of(task, head, np.asarray(labels)))
    return quality.result()


def _codes(values: np.ndarray, detail: dict) -> np.ndarray:
    """Floats as a tensor of a file has them: rounded to its grid, saturated to its type."""
    scale, zero_point = detail["quantization"]
    if not scale:
        return values.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])
