"""The plain int8 file of a float network: what to compare size, speed and accuracy with.

This is post-training quantization by AI Edge Quantizer, LiteRT's own tool: 8-bit activations calibrated on
sample images, 8-bit weights, nothing trained. It is the kind of file that most devices run today, hence the
reference of the benchmark:

    pathlib.Path("int8.tflite").write_bytes(int8_baseline(float_model, images))
    python -m export.benchmark --model=int8.tflite --model=model.tflite
"""

import contextlib
import io

import numpy as np
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe


def int8_baseline(model: keras.Model, images: np.ndarray) -> bytes:
    """Quantizes a float model to int8 after training.

    Args:
      model: a float Keras model with one input.
      images: calibration images as the model takes them, shape `(n, *model.input_shape[1:])`; 100 to 500 that
        look like the images to come are usual.

    Returns:
      The contents of a .tflite file without a float tensor.

    Raises:
      ValueError: `images` are none or do not fit the model's input.
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
    # Both report their progress on standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        tool = quantizer.Quantizer(float_file, recipe.static_wi8_ai8())
        statistics = tool.calibrate({"serving_default": [{name: image[None]} for image in images]})
        return bytes(tool.quantize(statistics).quantized_model)
