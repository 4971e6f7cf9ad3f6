"""The command ``gs4d`` as ``python -m gs4d``."""

import sys

from gs4d.cli import main

if __name__ == "__main__":
    sys.exit(main())
