"""`python -m cloche.cli`."""

from cloche.cli.main import main

main()
