"""What does the instability do? Escapes, slices, deviations, subgroups kept, pictures of a mode."""
