"""Which bundles are installed, and which one answers."""
