"""Recurrent-network models as a library: no Django, no database, no network."""
