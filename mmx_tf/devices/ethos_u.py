"""Arm's Ethos-U in all configurations that Vela knows: its compiled file, and its figures.

What layers cost is Vela's own word on trial files:

* cycles: those of the layer's operators, and of what moves or clips its input, in the file that has a pair of
  bits everywhere. Everything else (sums, other moves) counts as in the file in which it takes the most.
* flash: the packed weights of a file of that layer's operator alone. Vela names no bytes of single operators
  of a whole file.

An NPU reads weights compressed, and few different codes compress well, so files are stored as int8.
"""

import concurrent.futures
import os
from collections.abc import Mapping, Sequence

from mmx_tf.devices.device import Device, Pair, Table
from mmx_tf.export.vela.configurations import ACCELERATORS, resolve

COMPILED = "model_vela.tflite"


class EthosU(Device):
    """An Ethos-U with so many multiply-accumulates a cycle; clock and memories are Vela's defaults for it."""

    wants = {"weight_storage": "int8", "input_type": "int8", "output_type": "int8"}
    takes = {"weight_storage": ("int8",)}

    def __init__(self, name: str):
        self.name = name
        self.measures = {"target_flash": "bytes of off-chip flash", "target_latency": "ms"}
        self.refuses = ("target_ram",)
        self.why = {
            "weight_storage": "Vela reads int8 weights and compresses them itself.",
            "target_ram": "It counts the RAM of the C source; Vela's SRAM is in the figures of the run.",
        }
        if not name.startswith("ethos-u55"):
            # Vela's default memory mode there has weights in DRAM.
            del self.measures["target_flash"]
            self.refuses = ("target_ram", "target_flash")
            self.why["target_flash"] = "Vela puts the weights in DRAM there, and the file takes no flash."

    def check(self) -> None:
        """Needs the extra `ethos-u`."""
        resolve(self.name)

    def table(self, budget: str, trials: Mapping[Pair, bytes], layers: Sequence[str]) -> Table:
        """Costs as the module says."""
        return self._latencies(trials, layers) if budget == "target_latency" else self._flash(trials, layers)

    def figure(self, budget: str, data: bytes) -> float:
        """Off-chip flash in bytes, or milliseconds of one image."""
        said = self._said(data)
        return said["milliseconds"] if budget == "target_latency" else said["off_chip_flash_bytes"]

    def figures(self, data: bytes) -> dict[str, float | str]:
        """Cycles, time, memories, and what stays on the CPU."""
        said = self._said(data)
        flash, dram = said["off_chip_flash_bytes"], said["dram_bytes"]
        return {
            "device_latency_ms": said["milliseconds"],
            "device_sram_bytes": said["sram_bytes"],
            **({"device_flash_bytes": flash} if flash else {}),
            **({"device_dram_bytes": dram} if dram else {}),
            "cycles": said["cycles"],
            "on_the_cpu": ", ".join(said["cpu_operators"]) or "nothing",
        }

    def artefact(self, data: bytes) -> dict[str, bytes | str]:
        """The file that Vela has compiled."""
        from mmx_tf.export import vela

        return {COMPILED: vela.compile_file(data, accelerator=self.name).data}

    def _said(self, data: bytes) -> dict:
        return self.remembered("estimate", data, lambda: self._estimated(data))

    def _estimated(self, data: bytes) -> dict:
        from mmx_tf.export import vela

        found = vela.estimate(data, accelerator=self.name)
        cycles: dict[str, int] = {}
        for operator in found.operator_cycles:
            cycles[operator.name] = cycles.get(operator.name, 0) + operator.cycles
        return {
            "milliseconds": 1e3 * found.latency_seconds,
            "cycles": found.cycles,
            "clock_hz": found.clock_hz,
            "off_chip_flash_bytes": found.off_chip_flash_bytes,
            "dram_bytes": found.dram_bytes,
            "sram_bytes": found.sram_bytes,
            "packed_weight_bytes": found.packed_weight_bytes,
            "cpu_operators": [f"{operator.kind} {operator.name}" for operator in found.cpu_operators],
            "operator_cycles": cycles,
        }

    def _latencies(self, trials, layers) -> Table:
        pairs, costs, others = list(trials), {layer: {} for layer in layers}, []
        for pair, said in zip(pairs, self._of_all(list(trials.values())), strict=True):
            one_ms = 1e3 / said["clock_hz"]
            for layer in layers:
                costs[layer][pair] = one_ms * sum(
                    count for name, count in said["operator_cycles"].items() if _belongs(name, layer)
                )
            others.append(said["milliseconds"] - sum(costs[layer][pair] for layer in layers))
        return Table(costs, max(0.0, *others))

    def _flash(self, trials, layers) -> Table:
        costs: dict[str, dict[Pair, float]] = {layer: {} for layer in layers}
        # Activation bits are no part of a layer's weights: one file of each weight bit-width will do.
        of_weights = {weights: data for (weights, _), data in trials.items()}
        wanted = [(layer, weights) for weights in of_weights for layer in layers]
        alone = self._of_all([alone_in(of_weights[weights], layer) for layer, weights in wanted])
        sizes = {key: said["packed_weight_bytes"] for key, said in zip(wanted, alone, strict=True)}
        for weights, activations in trials:
            for layer in layers:
                costs[layer][weights, activations] = sizes[layer, weights]
        # All else (commands, biases, end layers) may depend on activation bits alone.
        most = max(of_weights)
        whole = [data for (weights, _), data in trials.items() if weights == most]
        packed = sum(sizes[layer, most] for layer in layers)
        others = [said["off_chip_flash_bytes"] - packed for said in self._of_all(whole)]
        return Table(costs, max(0, *others))

    def _of_all(self, files: Sequence[bytes]) -> list[dict]:
        """What Vela says of each, several processes of it at a time; it is asked in this thread's `Kept`."""
        said = {}
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            new = {data for data in files if not self.is_remembered("estimate", data)}
            running = {data: threads.submit(self._estimated, data) for data in new}
            for data in files:
                said[data] = self.remembered("estimate", data, lambda data=data: running[data].result())
        return [said[data] for data in files]


def _belongs(operator: str, layer: str) -> bool:
    """Whether an operator is a layer, or brings its input to the grid and the bits that it takes."""
    return operator == layer or operator.startswith(f"{layer}_input_quantizer")


def alone_in(data: bytes, output: str) -> bytes:
    """The file of one operator of a file, that which makes a tensor.

    Raises:
      ValueError: if there is no such operator.
    """
    import copy

    import numpy as np

    from mmx_tf.export.comparing.cut import packed_model, read_to_change

    model, file = read_to_change(data)
    graph = model.subgraphs[0]
    places = [i for i, one in enumerate(file.operators) if file.at(one.outputs)[0].name == output]
    if not places:
        raise ValueError(f"the file has no operator that makes {output!r}.")
    operator, changed = file.operators[places[0]], graph.operators[places[0]]
    tensors = [file.tensors[i] if i >= 0 else None for i in operator.inputs]
    graph.inputs = np.array(
        [i for i, one in zip(operator.inputs, tensors, strict=True) if one is not None and one.data is None],
        np.int32,
    )
    graph.outputs = np.array(operator.outputs, np.int32)
    graph.operators = [copy.copy(changed)]
    model.signatureDefs, model.metadata = [], []
    return packed_model(model)


ETHOS_U = tuple(EthosU(name) for name in ACCELERATORS)
