"""How a phase of a run is trained: it can be killed and resumed; optimizers, distillation, averages."""

from mmx_tf import startup

startup.load_tensorflow()
