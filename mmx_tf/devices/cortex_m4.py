"""Cortex-M4 and other microcontrollers: the C source (`export.c_source`), packed.

`--target_ram` and `--target_flash` count that program with or without this device
(`mmx_tf.metamix.ram`, `mmx_tf.metamix.flash`).
"""

from mmx_tf.devices.device import Device


class CortexM4(Device):
    """A program in C99 with activations and weights in few bits."""

    name = "cortex-m4"
    wants = {"weight_storage": "int8", "input_type": "int8", "output_type": "int8"}
    takes = {"input_type": ("", "uint8", "int8"), "output_type": ("int8",)}
    refuses = ("target_latency",)
    is_choosy = True
    why = {
        "input_type": "The C source takes codes.",
        "output_type": "The C source gives codes.",
        "target_latency": "No board is run here: instructions can be counted on an emulated core, and they "
        "are not time.",
    }

    def figures(self, data: bytes) -> dict[str, float | str]:
        """NET_RAM_BYTES and the bytes of constants."""
        made = self._made(data)
        return {"ram_bytes": made.ram_bytes, "flash_bytes": made.flash_bytes}

    def artefact(self, data: bytes) -> dict[str, bytes | str]:
        """The files of the C source."""
        return dict(self._made(data).files)

    def _made(self, data: bytes):
        from mmx_tf.export.c_source import c_source

        return c_source(data, source="model.tflite")


CORTEX_M4 = CortexM4()
