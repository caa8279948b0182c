"""`python -m cloche.cli`."""

from cloche.cli.entry import main

main()
