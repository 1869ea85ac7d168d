"""Quantizers and integer layers: everything here is independent of MetaMix's search and of the export."""

from mmx_tf import startup

startup.load_tensorflow()
