"""What every stage stands on: devices, processes, files, memory, precision, progress and seeds."""
