"""``python -m stability``: the command ``stability``."""

from stability.cli import leave, main

if __name__ == "__main__":
    leave(main())
