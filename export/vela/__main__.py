"""The command line of the package."""

import sys

from mmx_tf.export.vela.command import main

sys.exit(main())
