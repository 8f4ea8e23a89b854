"""``python -m cmzon_secrets.cli``: the command line where no script is installed."""

import sys

from cmzon_secrets.cli import main

sys.exit(main())
