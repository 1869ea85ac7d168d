"""Running a .tflite in LiteRT on whole batches, with one of its three sets of kernels.

    codes = run(data, {"image": pixels})["logits"]      # pixels [N, H, W, C] in the type of the input tensor
    codes = run(data, {"image": pixels}, kernels="reference")["logits"]

Kernels: "xnnpack" is what applications get by default; "builtin" are LiteRT's own optimized kernels, which a
runtime without the delegate uses; "reference" are its plain ones, close to what microcontrollers run.

Needs only numpy and ai-edge-litert.
"""

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from mmx_tf.export.running.batches import names_its_batch, of_batch

KERNELS = {
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


class KernelsMissingError(ValueError):
    """A file with an operator, or a version of one, that the chosen kernels do not have."""


class Runner:
    """A loaded .tflite; calling it runs one batch.

    Args:
      data: bytes of the file.
      kernels: one of `KERNELS`.
      num_threads: threads of one run.

    Attributes:
      inputs, outputs: tensor name -> LiteRT's description of the tensor.

    Raises:
      KernelsMissingError: if the kernels lack an operator of the file; the reference kernels have no
        depthwise convolution with int4 weights (see `export.comparing.unpacked`).
      ValueError: for other kernels, or bytes that are no .tflite.
    """

    def __init__(self, data: bytes, *, kernels: str = "xnnpack", num_threads: int = 1):
        if kernels not in KERNELS:
            raise ValueError(f"kernels is {kernels!r}; use one of {', '.join(KERNELS)}.")
        self._data, self._kernels, self._num_threads = data, kernels, num_threads
        try:
            self._load(data)
        except ValueError as error:
            if "find op for builtin opcode" not in str(error):
                raise
            reason = " ".join(str(error).split())
            raise KernelsMissingError(f"the {kernels} kernels cannot run the file: {reason}") from error
        self.inputs = {detail["name"]: detail for detail in self._interpreter.get_input_details()}
        self.outputs = {detail["name"]: detail for detail in self._interpreter.get_output_details()}
        self._size = None
        self._names_its_batch = names_its_batch(data)

    def _load(self, data):
        self._interpreter = Interpreter(
            model_content=data,
            num_threads=self._num_threads,
            experimental_op_resolver_type=KERNELS[self._kernels],
        )

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one batch.

        Args:
          inputs: input name -> array [N, ...] of the input tensor's dtype; one N for all.

        Returns:
          Output tensor name -> array [N, ...].

        Raises:
          ValueError: if the names are not those of the file's inputs.
        """
        if set(inputs) != set(self.inputs):
            raise ValueError(
                f"inputs are named {sorted(inputs)}; the file's inputs are {sorted(self.inputs)}."
            )
        size = len(next(iter(inputs.values())))
        if size != self._size:
            if self._names_its_batch:
                self._load(of_batch(self._data, size))
            for name, values in inputs.items():
                self._interpreter.resize_tensor_input(self.inputs[name]["index"], values.shape)
            self._interpreter.allocate_tensors()
            self._size = size
        for name, values in inputs.items():
            self._interpreter.set_tensor(self.inputs[name]["index"], values)
        self._interpreter.invoke()
        return {n: self._interpreter.get_tensor(detail["index"]) for n, detail in self.outputs.items()}


def run(data, inputs, *, batch_size=256, num_threads=1, kernels="xnnpack"):
    """Run the file on `inputs` (dict from input name to array) -> dict from output tensor name to array.

    The arrays share their first dimension N and have the dtype of the file's tensors; the file is resized to
    `batch_size` and to the rest at the end. ValueError as for `Runner`.
    """
    runner = Runner(data, kernels=kernels, num_threads=num_threads)
    count = len(next(iter(inputs.values())))
    results = [
        runner({name: values[start : start + batch_size] for name, values in inputs.items()})
        for start in range(0, count, batch_size)
    ]
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}
