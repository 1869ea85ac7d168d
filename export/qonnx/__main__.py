"""The command line of the package."""

import sys

from mmx_tf.export.qonnx.command import main

sys.exit(main())
