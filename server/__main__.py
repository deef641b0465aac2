"""Runs the command line: `python -m server` and the command `sotto`."""

import sys

from server.cli.main import run


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
