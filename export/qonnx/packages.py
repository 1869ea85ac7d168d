"""The packages of the extra `fpga`, loaded when first needed: onnx writes a file, the others run it."""

import importlib
import types

from mmx_tf.export.qonnx.errors import MissingPackageError


def imported(name: str) -> types.ModuleType:
    """A module of these packages; `MissingPackageError` where its package is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingPackageError(
            f"the package {package!r} is not installed; get it with: pip install 'mmx_tf[fpga]'"
        ) from error
