"""Claims of others, replayed: their data, their claim in our words, what was run, the number, what follows."""
