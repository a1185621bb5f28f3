"""The paper's own data: what is wrong with them, and what Figure 1 and the spectra make of it."""
