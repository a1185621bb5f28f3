"""How does a run go? From a problem to its analysis, stage by stage."""
