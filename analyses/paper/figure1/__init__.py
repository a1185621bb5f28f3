"""The paper's Figure 1: how far nominal, augmented and equivariant training leave E."""
