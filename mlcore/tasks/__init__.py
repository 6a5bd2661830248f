"""The catalogue: one torch-free module a task; the folder is the list."""
