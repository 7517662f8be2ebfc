"""Makes ``python -m phaze_ee`` the same as ``phaze_ee``."""

import sys

from phaze_ee.cli import main

if __name__ == "__main__":
    sys.exit(main())
