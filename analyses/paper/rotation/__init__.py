"""Why augmented and nominal training are alike in the paper's ROT: four suspects, one at a time."""
