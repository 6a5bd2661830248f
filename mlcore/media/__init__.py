"""Bytes of media to numpy arrays, with every limit enforced; no torch here."""
