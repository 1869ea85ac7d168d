"""A test program for a generated network: images, what the .tflite gives, and checksums of tensors."""

import numpy as np

from mmx_tf.export import reference
from mmx_tf.export.c_source.source import lines_of
from mmx_tf.export.c_source.writer import CSource, ends_of, rendered

_FACTOR = np.uint32(0x9E3779B1)


def check_program(made: CSource, images: dict[str, np.ndarray]) -> str:
    """The text of a program that ends with 0 if every code is that of the file.

    Args:
      made: what `c_source` made of it.
      images: by name of each input, [N, ...] in its type; N of at least 1.

    Raises:
      ValueError: images that are not of the input's type and shape.
    """
    tensors = reference.run(made.program.graph, images)
    inputs, outputs = ends_of(made)
    steps = [step for step in made.program.steps if step.output.place == "arena"]
    sums = np.stack([checksums(tensors[step.output.name], step.output.low) for step in steps], axis=1)
    for output in outputs:
        output["expected"] = [lines_of(output["ctype"], row) for row in tensors[output["tensor_name"]]]
    (only,) = inputs
    arguments = ["images[image]", *(f"computed_{number}" for number in range(len(outputs)))]
    return rendered(
        "check.c.jinja",
        name=made.name,
        upper=made.name.upper(),
        input=only,
        images=[lines_of(only["ctype"], row) for row in images[only["tensor_name"]]],
        outputs=outputs,
        checksums=[lines_of("uint32_t", row) for row in sums],
        arguments=", ".join(arguments),
    )


def checksums(codes: np.ndarray, low: int) -> np.ndarray:
    """What `mmx_checksum` gives for each image's slots: uint32 [N].

    codes: [N, ...], stored as code - low.
    """
    slots = codes.reshape(len(codes), -1).astype(np.int64) - low
    places = 2 * np.arange(slots.shape[1], dtype=np.uint32) + 1
    terms = (slots.astype(np.uint32) + np.uint32(1)) * places * _FACTOR
    return terms.sum(axis=1, dtype=np.uint32)
