"""Training of a run: phases that can be killed and resumed, optimizers, distillation, averages."""

from mmx_tf import startup

startup.load_tensorflow()
