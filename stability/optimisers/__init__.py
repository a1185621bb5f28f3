"""What does a training step do to E? Update rules, their multipliers sector by sector, noise, rehearsals."""
