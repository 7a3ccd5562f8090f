"""`python -m dropkit` is the command."""

from dropkit.cli import main

if __name__ == "__main__":
    main()
