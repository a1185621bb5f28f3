"""What everyone stands on: errors, records, files, checkpoints, processes, memory."""
