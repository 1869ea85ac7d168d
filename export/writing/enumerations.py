"""The schema's numbers for what the project has names for, which writers share."""

from ai_edge_litert import schema_py_generated as schema

Builtin, TensorType = schema.BuiltinOperator, schema.TensorType
ACTIVATIONS = {
    "linear": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
PADDINGS = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}
