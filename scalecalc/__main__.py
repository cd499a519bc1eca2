"""``python -m scalecalc`` is the ``scalecalc`` command."""

import sys

from scalecalc.cli import main

if __name__ == "__main__":
    sys.exit(main())
