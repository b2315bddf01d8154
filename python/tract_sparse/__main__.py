"""The command line: `python -m tract_sparse model.onnx inspect`."""

import sys

from ._tract_sparse import main


def run() -> None:
    """Runs the arguments of this process as `tract-sparse` does, and ends with its exit code."""
    sys.exit(main(["tract-sparse", *sys.argv[1:]]))


if __name__ == "__main__":
    run()
