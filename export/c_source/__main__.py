"""The command line of the package."""

import sys

from mmx_tf.export.c_source.command import main

sys.exit(main())
