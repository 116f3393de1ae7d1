"""``python -m vpbench``."""

import sys

from vpbench.cli import main

if __name__ == "__main__":
    sys.exit(main())
