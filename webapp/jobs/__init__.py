"""What people asked for and its fate: jobs, batches, workers."""
