"""``python -m csrerank``."""

from csrerank.cli import main

main()
