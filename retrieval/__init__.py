"""Vectors and tables: an index of clips, search in it, and its evaluation. Never imports a network."""
