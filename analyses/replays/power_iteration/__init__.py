"""Five largest |λ| on mini-batches against the signed ends of the whole spectrum."""
