"""What a product and an eigenvalue cost, next to other tools and to the floor, in one run."""
