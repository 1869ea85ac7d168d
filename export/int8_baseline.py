"""The plain int8 file of a float network: what to compare size, speed and accuracy with.

This is TensorFlow Lite's own post-training quantization: 8-bit activations calibrated on sample images, 8-bit
weights, nothing trained. It is the file that most devices run today, hence the reference of the benchmark:

    pathlib.Path("int8.tflite").write_bytes(int8_baseline(float_model, images))
    python -m export.benchmark --model=int8.tflite --model=model.tflite
"""

import warnings

import numpy as np
import tensorflow as tf
import tf_keras as keras


def int8_baseline(model: keras.Model, images: np.ndarray, *, input_type: str = "int8") -> bytes:
    """Quantizes a float model to int8 after training.

    Args:
      model: a float Keras model with one input.
      images: calibration images as the model takes them, shape `(n, *model.input_shape[1:])`; 100 to 500 that
        look like the images to come are usual.
      input_type: "int8" or "uint8", the type of the file's input; its output is int8.

    Returns:
      The contents of a .tflite file without a float tensor.

    Raises:
      ValueError: `images` are none or do not fit the model's input, or `input_type` is neither of the two.
    """
    if input_type not in ("int8", "uint8"):
        raise ValueError(f"input_type={input_type!r}: use 'int8' or 'uint8'.")
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
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.dtypes.as_dtype(input_type)
    converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        # The converter misses ranges for its quantized input although the calibration supplies them.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")
        return converter.convert()
