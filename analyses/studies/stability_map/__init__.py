"""Where equivariant minima are unstable: over width, weight decay, depth, samples and group, on three kinds of data."""
