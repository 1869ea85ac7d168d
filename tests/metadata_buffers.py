"""The metadata buffers of a .tflite, whatever is in them."""

from ai_edge_litert import schema_py_generated as schema


def read_metadata(data):
    """dict from name to bytes: the metadata buffers of the .tflite in `data`."""
    model = schema.Model.GetRootAs(data, 0)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    result = {}
    for entry in entries:
        buffer = model.Buffers(entry.Buffer())
        result[entry.Name().decode()] = buffer.DataAsNumpy().tobytes() if buffer.DataLength() else b""
    return result
