"""The command line: ``python -m fastseqloss demo|info``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from . import __version__, show_config

DEMO_PACKAGES = {name: name for name in ("matplotlib", "threadpoolctl", "tqdm")} | {"sklearn": "scikit-learn"}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastseqloss", description="Sequence losses with gradients for NumPy."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo|info")
    demo = commands.add_parser(
        "demo",
        help="train a reader of handwritten digit strings, in about a minute",
        description="Train a recurrent reader of strings of handwritten digits with ctc_loss, and "
        "draw how it reads. Needs the extra `demo`.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--seed", type=_natural, default=0, help="of the split, strings and weights")
    demo.add_argument("--epochs", type=_positive, default=12, help="of 100 batches of 32 strings")
    demo.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="folder for the picture")
    info = commands.add_parser("info", help="print versions, instruction set, compiler and threads")
    for command in (demo, info):
        command.set_defaults(parser=command)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; `arguments` are those of the command line by default."""
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:  # with the usage of the command, which `parse_args` would not print
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.command == "info":
        show_config()
        return
    try:
        from .demo import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in DEMO_PACKAGES:
            raise
        packages = " ".join(DEMO_PACKAGES.values())
        options.parser.exit(1, f"the demo needs {error.name}, of the extra `demo`: python -m pip install {packages}\n")
    run(options.seed, options.epochs, options.output)


if __name__ == "__main__":
    main()
