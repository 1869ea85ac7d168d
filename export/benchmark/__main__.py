"""The command line of the package."""

import sys

from .command import main

sys.exit(main())
