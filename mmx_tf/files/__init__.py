"""Files and folders that networks come from: what each holds, what in it is let through, and its reader."""

from mmx_tf import startup

startup.load_tensorflow()
