"""How does G act on this network? Representations found from weights, and whose fault an error of equivariance is."""
