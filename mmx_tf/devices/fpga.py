"""FPGAs: the file as QONNX (`export.qonnx`), whose layers have their real bits. BOPs are the cost."""

from mmx_tf.devices.device import Device

NAME = "model.onnx"


class Fpga(Device):
    """QONNX for FINN and the like."""

    name = "fpga"
    wants = {"weight_storage": "int8", "output_type": "int8"}
    takes = {"input_type": ("", "uint8", "int8"), "output_type": ("int8", "class")}
    refuses = ("target_latency", "target_flash", "target_ram")
    is_choosy = True
    why = {
        "input_type": "QONNX has integers alone.",
        "output_type": "QONNX has integers alone.",
        "target_latency": "Nothing is synthesized here, so no time is known; BOPs are the cost.",
        "target_flash": "An FPGA's memories are not known here; BOPs are the cost.",
        "target_ram": "An FPGA's memories are not known here; BOPs are the cost.",
    }

    def check(self) -> None:
        """Needs the extra `fpga`."""
        from mmx_tf.export.qonnx import MissingPackageError, packages

        try:
            packages.imported("onnx")
        except MissingPackageError as error:
            raise ValueError(f"{error}.") from error

    def figures(self, data: bytes) -> dict[str, float | str]:
        """BOPs of one image, nodes, and bytes of the `.onnx`."""
        made, text = self._made(data)
        return {"bops": made.bops, "nodes": len(made.model.graph.node), "onnx_bytes": len(text)}

    def artefact(self, data: bytes) -> dict[str, bytes | str]:
        """model.onnx."""
        return {NAME: self._made(data)[1]}

    def _made(self, data: bytes):
        from mmx_tf.export.qonnx import qonnx_model

        made = qonnx_model(data)
        return made, made.model.SerializeToString(deterministic=True)


FPGA = Fpga()
