"""How augmented training leaves E, how fast, where it ends, and what a long step changes."""
