"""`python -m adshift.cli`, where the script is not on the path."""

from adshift.cli import main

main()
