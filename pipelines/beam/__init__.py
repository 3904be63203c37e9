"""Beam steps and coders: the only folder that imports Beam."""
