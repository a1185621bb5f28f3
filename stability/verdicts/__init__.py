"""Is it stable, and how surely? Error budgets, Newton steps, bounds, flat directions, identities."""
