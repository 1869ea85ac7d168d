"""What TensorFlow and LiteRT say of themselves once per process, provoked where it is held back."""

import functools

from mmx_tf import startup


@functools.cache
def provoke_native_noise() -> None:
    """Makes TensorFlow look for a GPU and LiteRT for its delegate, which each say once per process."""
    startup.load_tensorflow()
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

    from mmx_tf.export.writing.flatbuffer import GraphWriter

    writer = GraphWriter()
    value = writer.tensor("value", (1,), TensorType.FLOAT32)
    magnitude = writer.tensor("magnitude", (1,), TensorType.FLOAT32)
    writer.operator(BuiltinOperator.ABS, [value], [magnitude])
    data = writer.finish({"value": value}, {"magnitude": magnitude})
    with startup.without_native_noise():
        tf.config.list_physical_devices()
        Interpreter(model_content=data).allocate_tensors()
