"""Running a .tflite in LiteRT under XNNPACK on whole batches.

    codes = run(data, {"image": pixels})["logits"]      # pixels [N, H, W, C] in the type of the input tensor

Needs only numpy and ai-edge-litert.
"""

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def run(data, inputs, *, batch_size=256, num_threads=1):
    """Run the file on `inputs` (dict from input name to array) -> dict from output tensor name to array.

    The arrays share their first dimension N and have the dtype of the file's tensors; the file is resized to
    `batch_size` and to the rest at the end. ValueError when the names are not those of the file's inputs.
    """
    interpreter = Interpreter(model_content=data, num_threads=num_threads)
    indices = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    if set(inputs) != set(indices):
        raise ValueError(f"inputs are named {sorted(inputs)}; the file's inputs are {sorted(indices)}.")
    count, size, results = len(next(iter(inputs.values()))), None, []
    for start in range(0, count, batch_size):
        batch = {name: values[start : start + batch_size] for name, values in inputs.items()}
        if size != (size := len(next(iter(batch.values())))):
            for name, values in batch.items():
                interpreter.resize_tensor_input(indices[name], values.shape)
            interpreter.allocate_tensors()
        for name, values in batch.items():
            interpreter.set_tensor(indices[name], values)
        interpreter.invoke()
        outputs = interpreter.get_output_details()
        results.append({detail["name"]: interpreter.get_tensor(detail["index"]) for detail in outputs})
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}
