"""Asking LiteRT what XNNPACK takes, in a process of its own: a damaged file may take that process down.

    try:
        delegation = query(data)                # export.running.partitions.Delegation
    except DelegationError as error:
        print(error)                            # LiteRT crashes on the file (signal 11).

Needs only numpy and ai-edge-litert.
"""

from mmx_tf.export.benchmark import isolated
from mmx_tf.export.running.partitions import Delegation, delegated_ops

# Loading and delegation take well under a second; only a damaged file takes long.
_LIMIT_S = 300


class DelegationError(RuntimeError):
    """LiteRT cannot load the file, crashes on it, or does not come to an end."""


def query(data: bytes) -> Delegation:
    """The `Delegation` of the .tflite in `data` on this machine; raises `DelegationError`, with one line."""
    try:
        found = isolated.ask(delegated_ops, data, limit_s=_LIMIT_S)
    except isolated.TooLongError as error:
        raise DelegationError(f"LiteRT did not load the file within {_LIMIT_S} s.") from error
    except isolated.CrashError as crash:
        raise DelegationError(f"LiteRT crashes on the file (signal {crash.number}).") from crash
    except isolated.RefusalError as error:
        raise DelegationError(f"LiteRT cannot load the file: {error}") from error
    return Delegation(found["partitions"], tuple((index, name) for index, name in found["left_outside"]))
