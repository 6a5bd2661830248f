"""Training: one loop, one data pipeline, and a recipe for each bundle."""
