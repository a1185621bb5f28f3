"""``python -m stability.spectrum``."""

from stability.spectrum.command import leave, main

if __name__ == "__main__":
    leave(main())
