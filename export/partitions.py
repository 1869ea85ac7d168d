"""Which operators of a .tflite XNNPACK takes: on this machine, with this LiteRT.

    delegation = delegated_ops(data)
    delegation.partitions, delegation.left_outside        # 1, () when everything runs in XNNPACK

Needs only numpy and ai-edge-litert.
"""

from dataclasses import dataclass

from ai_edge_litert.interpreter import Interpreter


@dataclass(frozen=True)
class Delegation:
    """Number of XNNPACK partitions, and the operators outside them as (index in the file, operator name)."""

    partitions: int
    left_outside: tuple


def delegated_ops(data):
    """The `Delegation` of the .tflite in `data` (bytes) under LiteRT's default interpreter, with XNNPACK."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    operators = [node for node in nodes if node["op_name"] != "DELEGATE"]
    producer = {tensor: node for node in operators for tensor in node["outputs"]}
    inside = set()
    for delegate in delegates:
        # A partition holds everything between its outputs and its inputs; the interpreter lists only those
        # two.
        borders, pending = set(delegate["inputs"]), list(delegate["outputs"])
        while pending:
            node = producer.get(pending.pop())
            if node is not None and node["index"] not in inside:
                inside.add(node["index"])
                pending += [tensor for tensor in node["inputs"] if tensor not in borders]
    outside = tuple((node["index"], node["op_name"]) for node in operators if node["index"] not in inside)
    return Delegation(len(delegates), outside)
