"""What a choice of bits costs, and the choice that fits a budget."""

from mmx_tf import startup

startup.load_tensorflow()
