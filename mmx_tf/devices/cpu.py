"""CPUs under a stock LiteRT: the file itself, packed, and its time on the machine of the run.

What layers cost is the time of their kernels by LiteRT's profiler, in files that have a pair of bits
everywhere; everything else counts as in the file in which it takes the longest. Activations travel in int8
tensors, so their bits change no time, and times of one machine are no other's.
"""

import pathlib
import tempfile
from collections.abc import Mapping, Sequence

from mmx_tf.devices.device import Device, Pair, Table

RUNS = 50


class Cpu(Device):
    """LiteRT with XNNPACK, on one thread."""

    name = "cpu"
    wants = {"weight_storage": "int4_xnnpack"}
    measures = {"target_latency": "ms"}
    refuses = ("target_flash", "target_ram")
    why = {
        "target_flash": "It counts constants of a microcontroller. The size of a CPU's file is "
        "--target_bytes.",
        "target_ram": "It counts RAM of the C source; activations of few bits save none on a CPU.",
    }

    def table(self, budget: str, trials: Mapping[Pair, bytes], layers: Sequence[str]) -> Table:
        """Costs as the module says."""
        costs, others = {layer: {} for layer in layers}, []
        for pair, data in trials.items():
            said = self.remembered("kernels", data, lambda data=data: _kernels(data))
            for layer in layers:
                costs[layer][pair] = said["of_outputs"].get(layer, 0.0)
            others.append(said["sum_ms"] - sum(costs[layer][pair] for layer in layers))
        return Table(costs, max(0.0, *others))

    def figure(self, budget: str, data: bytes) -> float:
        """Median milliseconds of one image."""
        return self.remembered("median", data, lambda: _timed(data, profiled=False)[0].median_ms)

    def figures(self, data: bytes) -> dict[str, float | str]:
        """The time of one image, in milliseconds."""
        return {"latency_ms": self.figure("target_latency", data)}


def _timed(data: bytes, *, profiled: bool):
    from mmx_tf.export.benchmark import benchmark
    from mmx_tf.export.benchmark.timing import profiles

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.tflite"
        path.write_bytes(data)
        timings = benchmark([str(path)], threads=(1,), runs=RUNS)
        return profiles(timings, runs=RUNS) if profiled else timings


def _kernels(data: bytes) -> dict:
    """Milliseconds of each kernel by the tensor that it makes, and of all."""
    (profile,) = _timed(data, profiled=True)
    times: dict[str, float] = {}
    for kernel in profile.operators:
        if kernel.output is not None:
            times[kernel.output] = times.get(kernel.output, 0.0) + kernel.median_ms
    return {"of_outputs": times, "sum_ms": profile.sum_ms}


CPU = Cpu()
