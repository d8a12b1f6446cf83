"""`cgckit` and `python -m cgckit`: the command line, which may be interrupted from the first moment on."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it in one line even while it is loaded, and while Python ends."""
    try:
        from cgckit.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("cgckit: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
