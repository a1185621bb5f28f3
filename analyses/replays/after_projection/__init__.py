"""After projection onto E: which optimiser leaves it, said beforehand and then measured."""
