"""``python -m headrace``: the command line."""

import sys

from headrace.pipelines.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
