"""Whether a file becomes another form, told by the exporter of the form itself.

>>> as_c_source(data).refusal  # else: "operator 3 (MAXIMUM) of two tensors is not written in C, ..."
''
"""

import dataclasses

from mmx_tf.export import c_source, qonnx


@dataclasses.dataclass(frozen=True)
class FormCheck:
    """Whether a file becomes a form.

    Attributes:
      refusal: why not, which names the operator; "" where it does.
      missing: a sentence where the package is not installed that would tell.
      facts: what the form takes at the file's bits, by name, such as `ram_bytes`.
    """

    refusal: str = ""
    missing: str = ""
    facts: dict[str, int] = dataclasses.field(default_factory=dict)


def as_c_source(data: bytes) -> FormCheck:
    """C source for microcontrollers; facts are `ram_bytes` and `flash_bytes`."""
    try:
        made = c_source.c_source(data)
    except c_source.UnsupportedError as error:
        return FormCheck(refusal=str(error))
    return FormCheck(facts={"ram_bytes": made.ram_bytes, "flash_bytes": made.flash_bytes})


def as_qonnx(data: bytes) -> FormCheck:
    """QONNX for FPGA flows; facts are `nodes`."""
    try:
        made = qonnx.qonnx_model(data)
    except qonnx.UnsupportedError as error:
        return FormCheck(refusal=str(error))
    except qonnx.MissingPackageError as error:
        return FormCheck(missing=str(error))
    return FormCheck(facts={"nodes": len(made.model.graph.node)})
