"""``python -m bench.cli``."""

from . import main

main()
