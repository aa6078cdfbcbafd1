"""`python -m asi_arch` is the command line."""

from asi_arch.cli import main

main()
