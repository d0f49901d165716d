"Run the command: python -m facekp."

import sys

from facekp.cli import main

if __name__ == "__main__":
    sys.exit(main())
