"""``python -m bench``: the command line, where the script `bench` is not on the path."""

from bench.cli import main

main()
