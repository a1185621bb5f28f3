"""Studies of our own: what the paper leaves open, and what this program costs."""
