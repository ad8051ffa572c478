"""Recipes, training, evaluation and the command line: the only floor that knows the other three."""
