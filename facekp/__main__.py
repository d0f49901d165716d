"Run the command: python -m facekp, and the script facekp."

import _signal  # type: ignore[import-not-found]  # signal itself imports enum, and a Ctrl-C meanwhile would print a traceback
import os
import sys
from typing import Any


def _stop(*_: Any) -> None:
    "End the process with the line that a later Ctrl-C prints."
    os.write(2, b"facekp: stopped\n")
    os._exit(130)  # no work has begun; the import system might drop or print an exception


def main() -> int:  # exit status
    "Run the command; a Ctrl-C while it is imported or while Python ends prints no traceback."
    ours = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler  # nohup and shells in the background ignore it
    if ours:
        _signal.signal(_signal.SIGINT, _stop)
    from facekp.cli import main as run

    if ours:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    try:
        return run()
    except KeyboardInterrupt:  # while the options are read
        print("facekp: stopped", file=sys.stderr)
        return 130
    finally:
        if ours:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
