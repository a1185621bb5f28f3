"""Several results: side by side (``compare``), and an index over a folder of them (``gallery``)."""
