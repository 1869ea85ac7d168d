"""Networks that nobody here wrote, from augment to an exact file, or refused with a reason.

    python -m benchmarks.networks --json=results/export/networks.json       # all, about 20 minutes on 2 cores
    python -m benchmarks.networks --only=MobileNet,VGG16

Keras's own applications at a small input size with random weights, whose batch-norm statistics are those of
real image crops. Each goes through augment, one step of bit selection, rebuild, fold, convert, and is
compared with LiteRT operator by operator; where a step refuses it, the error is recorded. Results are written
after every network, so an interrupted command loses one.
"""

import dataclasses
import gc
import json
import pathlib
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
import tf_keras as keras
from sklearn.datasets import load_sample_images

import mmx_tf
from benchmarks import command_line, measuring
from mmx_tf.export.comparing.certificate import certify
from mmx_tf.network.keras3 import as_tf_keras

CLASSES = 10
SIZE = 64
IMAGES = 16
apps = keras.applications


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one network.

    Attributes:
      layers: weighted layers that got an activation quantizer.
      reached: the last step that it went through, "verify" for all of them.
      error: why the next step refused it; empty if none did.
      codes, differing: of all operators under XNNPACK, on `IMAGES` images.
      top1_agreement: share of images on which the whole file names the folded network's class; of several
        outputs the smallest `agreement`.
      partitions: XNNPACK partitions of the file. file_bytes: its size. seconds: of everything.
    """

    layers: int = 0
    reached: str = ""
    error: str = ""
    codes: int = 0
    differing: int = 0
    top1_agreement: float | None = None
    partitions: int | None = None
    file_bytes: int = 0
    seconds: float = 0.0


def application(build, *, size: int = SIZE, **options):
    """A function that builds an application for `CLASSES` classes, without downloading anything."""
    return lambda: build(
        input_shape=(size, size, 3), weights=None, classes=CLASSES, classifier_activation=None, **options
    )


def sequential() -> keras.Model:
    """A CNN as tutorials write it."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((SIZE, SIZE, 3)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(CLASSES),
        ]
    )


def shared_layer() -> keras.Model:
    """One convolution object that is called twice."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    conv = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="shared")
    x = keras.layers.GlobalAveragePooling2D()(conv(conv(x)))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def nested() -> keras.Model:
    """A backbone as a layer of the network."""
    backbone = apps.MobileNetV2(input_shape=(SIZE, SIZE, 3), alpha=0.35, weights=None, include_top=False)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def unet(up):
    """A network of three classes for each pixel; `up` gives the layer that makes an image twice as large."""

    def built() -> keras.Model:
        layers = keras.layers
        inputs = x = keras.Input((SIZE, SIZE, 3))
        skips = []
        for width in (16, 24):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
            skips.append(x)
            x = layers.MaxPooling2D()(x)
        x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
        for width, skip in zip((24, 16), reversed(skips), strict=True):
            x = layers.Concatenate()([up(width)(x), skip])
            x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        return keras.Model(inputs, layers.Conv2D(3, 1, activation="softmax")(x))

    return built


def electrocardiograms() -> keras.Model:
    """A network of 1-D layers on signals of 384 steps."""
    layers = keras.layers
    inputs = keras.Input((384, 1))
    x = layers.Conv1D(16, 15, strides=4, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for width in (24, 32):
        y = layers.SeparableConv1D(width, 7, padding="same", activation="relu")(x)
        x = layers.Add()([layers.Conv1D(width, 1)(x), layers.Conv1D(width, 7, padding="same")(y)])
        x = layers.MaxPooling1D(4)(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x)))


def keyword_spotter() -> keras.Model:
    """A depthwise separable network with LeakyReLU on 49 frames of 40 bands."""
    layers = keras.layers
    inputs = keras.Input((49, 40, 1))
    x = layers.Conv2D(32, (10, 4), strides=2, padding="same", use_bias=False)(inputs)
    x = layers.LeakyReLU(0.1)(layers.BatchNormalization()(x))
    for _ in range(3):
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.LeakyReLU(0.1)(layers.BatchNormalization()(x))
        x = layers.Conv2D(32, 1, use_bias=False)(x)
        x = layers.LeakyReLU(0.1)(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def autoencoder() -> keras.Model:
    """A network that gives its image back."""
    layers = keras.layers
    inputs = x = keras.Input((SIZE, SIZE, 3))
    for width in (16, 24):
        x = layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")(x)
    for width in (24, 16):
        x = layers.Conv2DTranspose(width, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(3, 3, padding="same")(x))


def one_sigmoid() -> keras.Model:
    """MobileNetV2 with a head of two classes, as tutorials transfer it."""
    backbone = apps.MobileNetV2(input_shape=(SIZE, SIZE, 3), alpha=0.35, weights=None, include_top=False)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(backbone(inputs)))
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))


def two_heads() -> keras.Model:
    """A backbone with a classifier and a regressor (`task` trains the outputs by these names)."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, activation="relu")(x))
    heads = [keras.layers.Dense(CLASSES, name="classes")(x), keras.layers.Dense(4, name="box")(x)]
    return keras.Model(inputs, heads)


def task(network: keras.Model, images: np.ndarray):
    """(loss, labels) of a network of classes, of images or pixels; where it has a box too, of both."""
    loss, labels = keras.losses.SparseCategoricalCrossentropy(from_logits=True), np.arange(IMAGES) % CLASSES
    if len(network.outputs) == 1:
        shape, pixels = tuple(network.output_shape[1:]), images[..., 0]
        found = {
            (1,): ("binary_crossentropy", labels % 2),
            (SIZE, SIZE, 3): ("sparse_categorical_crossentropy", np.digitize(pixels, [-0.5, 0.2])),
        }
        if shape == images.shape[1:] and network.layers[-1].activation is keras.activations.linear:
            return "mse", images
        return found.get(shape, (loss, labels))
    boxes = np.random.default_rng(0).uniform(size=(IMAGES, 4)).astype(np.float32)
    return {"classes": loss, "box": "mse"}, {"classes": labels, "box": boxes}


def of_keras3(build):
    """A network of Keras 3, in memory."""

    def built():
        import keras as keras3

        return as_tf_keras(build(keras3))

    return built


def from_keras3_file():
    """A .keras file that Keras 3 has written."""
    import keras as keras3

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network.keras")
        keras3_sequential(keras3).save(path)
        return mmx_tf.load_model(path)


def keras3_sequential(keras3):
    """A small network as Keras 3's documentation writes them."""
    layers = keras3.layers
    return keras3.Sequential(
        [
            layers.Input((SIZE, SIZE, 3)),
            layers.Conv2D(16, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("silu"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu6"),
            layers.Conv2D(24, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES),
        ]
    )


def keras3_mobilenet_v3(keras3):
    """Keras 3's own MobileNetV3Small."""
    return keras3.applications.MobileNetV3Small(
        input_shape=(SIZE, SIZE, 3), weights=None, classes=CLASSES, classifier_activation=None
    )


NETWORKS = {
    "MobileNet": application(apps.MobileNet),
    "MobileNetV2 0.35": application(apps.MobileNetV2, alpha=0.35),
    "MobileNetV2 1.0": application(apps.MobileNetV2),
    "MobileNetV2 1.4": application(apps.MobileNetV2, alpha=1.4),
    "MobileNetV3Small": application(apps.MobileNetV3Small),
    "MobileNetV3Small minimalistic": application(apps.MobileNetV3Small, minimalistic=True),
    "MobileNetV3Large": application(apps.MobileNetV3Large),
    "MobileNetV3Large minimalistic": application(apps.MobileNetV3Large, minimalistic=True),
    "ResNet50": application(apps.ResNet50),
    "ResNet50V2": application(apps.ResNet50V2),
    "DenseNet121": application(apps.DenseNet121),
    "VGG16": application(apps.VGG16),
    "Xception": application(apps.Xception, size=72),
    "EfficientNetB0": application(apps.EfficientNetB0),
    "NASNetMobile": application(apps.NASNetMobile),
    "Sequential CNN": sequential,
    "shared layer": shared_layer,
    "nested model": nested,
    "two heads": two_heads,
    "U-Net with Conv2DTranspose": unet(
        lambda width: keras.layers.Conv2DTranspose(width, 3, strides=2, padding="same", activation="relu")
    ),
    "U-Net with UpSampling2D": unet(lambda width: keras.layers.UpSampling2D(interpolation="bilinear")),
    "1-D convolutions on 384 steps": electrocardiograms,
    "keyword spotter with LeakyReLU": keyword_spotter,
    "autoencoder": autoencoder,
    "MobileNetV2 0.35 with one sigmoid": one_sigmoid,
    "Keras 3 Sequential": of_keras3(keras3_sequential),
    "Keras 3 .keras file": from_keras3_file,
    "Keras 3 MobileNetV3Small": of_keras3(keras3_mobilenet_v3),
}


def crops(size: int, count: int, seed: int = 0) -> np.ndarray:
    """(count, size, size, 3) crops of scikit-learn's two photographs, as pixels / 127.5 - 1."""
    photographs, rng = load_sample_images().images, np.random.default_rng(seed)
    images = []
    for index in range(count):
        photograph = photographs[index % 2]
        side = int(rng.integers(size, photograph.shape[0]))
        top, left = (int(rng.integers(0, length - side + 1)) for length in photograph.shape[:2])
        crop = photograph[top : top + side, left : left + side].astype(np.float32)
        images.append(tf.image.resize(crop, (size, size), antialias=True).numpy())
    return np.stack(images) / np.float32(127.5) - 1


def inputs_of(network: keras.Model) -> np.ndarray:
    """`IMAGES` crops for a network; of fewer channels, columns or rows what they hold of them."""
    shape = network.input_shape[1:]
    images = crops(max(shape[:2]), IMAGES)
    if len(shape) == 2:
        return images[:, 0, :, : shape[1]]
    return images[:, : shape[0], : shape[1], : shape[2]]


def with_statistics_of(network: keras.Model, images: np.ndarray) -> keras.Model:
    """Sets every batch norm's running statistics to those of the images, as training would have."""
    norms = [
        layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    network(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network


def tried(build) -> Outcome:
    """Takes one network as far as it goes."""
    begin, outcome = time.monotonic(), Outcome()

    def reach(step, **facts):
        nonlocal outcome
        outcome = dataclasses.replace(outcome, reached=step, **facts)
        print(f"    {step} ({time.monotonic() - begin:.0f} s)", file=sys.stderr, flush=True)

    keras.utils.set_random_seed(0)
    network = build()
    images = inputs_of(network)
    loss, labels = task(network, images)
    with_statistics_of(network, images)
    try:
        search = mmx_tf.augment(network, bit_widths=(8, 4, 3), target_average_bits=5, meta_epochs=0)
        reach("augment", layers=len(search.budget.costs))
        # Tracing takes minutes for the large networks and pays for itself over many steps, not over one.
        search.compile(optimizer=keras.optimizers.SGD(1e-4), loss=loss, run_eagerly=True)
        search.fit(images, labels, batch_size=IMAGES, verbose=0)
        reach("select")
        fixed = mmx_tf.rebuild(search, search.bit_selection())
        fixed(images)
        reach("rebuild")
        folded = mmx_tf.fold(fixed)
        reach("fold")
        data = mmx_tf.convert(folded)
        evaluation = tf.data.Dataset.from_tensor_slices((images, labels)).batch(IMAGES)
        report = mmx_tf.verify(folded, data, evaluation)
        runtime = certify(folded, data, evaluation, kernels=["xnnpack"]).runtimes["xnnpack"]
        reach(
            "verify",
            codes=sum(operator.codes for operator in runtime.operators),
            differing=runtime.differing,
            top1_agreement=report.agreement,
            partitions=report.partitions,
            file_bytes=len(data),
        )
    except ValueError as error:
        outcome = dataclasses.replace(outcome, error=str(error))
    return dataclasses.replace(outcome, seconds=round(time.monotonic() - begin, 1))


def table(results: dict[str, dict]) -> str:
    """The results as a table in Markdown."""
    lines = [
        "| network | layers | codes compared | differing | XNNPACK partitions | file |",
        "|---|---|---|---|---|---|",
    ]
    for name, outcome in results.items():
        if outcome["error"]:
            stopped = f"stopped after {outcome['reached']}" if outcome["reached"] else "refused by `augment`"
            lines.append(f"| {name} | {stopped}: {outcome['error']} |||||")
        else:
            lines.append(
                f"| {name} | {outcome['layers']} | {outcome['codes']:,} | {outcome['differing']:,} "
                f"| {outcome['partitions']} | {outcome['file_bytes'] / 1e6:.2f} MB |"
            )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Tries the networks and prints what became of each; returns the exit code."""
    parser = command_line.argument_parser("benchmarks.networks", __doc__)
    command_line.add_choice(parser, "--only", NETWORKS)
    options = parser.parse_args(argv)
    results = {}
    if options.json and options.json.exists():
        results = json.loads(options.json.read_text())
    earlier = results.pop("provenance", None)
    for name in options.only:
        print(name, file=sys.stderr)
        outcome = tried(NETWORKS[name])
        keras.backend.clear_session()
        gc.collect()
        results[name] = dataclasses.asdict(outcome)
        print(f"{name}: {outcome.reached or 'refused'}. {outcome.error or outcome}", flush=True)
        if options.json:
            measuring.write_json(options.json, results, earlier=earlier)
    print(table({name: results[name] for name in NETWORKS if name in results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
