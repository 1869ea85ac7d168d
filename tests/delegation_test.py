"""Asking LiteRT in another process: the same answer as in this one, and no crash of this one."""

import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_samples import sample

from mmx_tf.export import inspect
from mmx_tf.export.running.delegation import DelegationError, query
from mmx_tf.export.running.partitions import delegated_ops
from mmx_tf.export.writing.flatbuffer import GraphWriter, quantization

TensorType = schema.TensorType


def test_the_answer_is_that_of_this_process(tmp_path, monkeypatch):
    # Neither the current folder nor a module in it that is named like one that is imported matters.
    for name in ("export", "mmx_tf", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    monkeypatch.chdir(tmp_path)
    found = query(sample())
    assert found == delegated_ops(sample()) and found.partitions >= 1
    assert (0, "QUANTIZE") in found.left_outside


def crashing():
    """A zero point that int8 does not hold: LiteRT 2.3 reads past a table when it prepares DEQUANTIZE."""
    writer = GraphWriter()
    source = writer.tensor("x", (1, 4), TensorType.FLOAT32)
    grid = quantization([0.1], [30720])
    codes = writer.tensor("codes", (1, 4), TensorType.INT8, quantization=grid)
    result = writer.tensor("y", (1, 4), TensorType.FLOAT32)
    options = schema.QuantizeOptionsT()
    writer.operator(schema.BuiltinOperator.QUANTIZE, [source], [codes], options=options)
    options = schema.DequantizeOptionsT()
    writer.operator(schema.BuiltinOperator.DEQUANTIZE, [codes], [result], options=options, version=2)
    return writer.finish({"x": source}, {"y": result})


def test_a_crash_of_litert_is_a_line():
    with pytest.raises(DelegationError, match=r"^LiteRT crashes on the file \(signal \d+\)\.$"):
        query(crashing())
    found = inspect.summary(crashing())
    assert found.partitions is None and "crashes" in found.delegation_fault
    assert "not known: LiteRT crashes" in inspect.text(found)


def test_a_refusal_of_litert_is_a_line():
    with pytest.raises(DelegationError, match=r"^LiteRT cannot load the file: [^\n]+$"):
        query(sample()[:500])
    with pytest.raises(DelegationError, match="cannot load"):
        query(b"")
