"""MetaMix: the search network, Algorithm 1, the selection, and the fixed network that it gives."""

from mmx_tf import startup

startup.load_tensorflow()
