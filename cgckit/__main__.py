"""`python -m cgckit` is the command line."""

from cgckit.cli.main import main

main()
