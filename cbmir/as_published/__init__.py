"""Figures as papers' own code gives them, with what is wrong in it."""
