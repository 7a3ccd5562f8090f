"""Labelled pictures: where they come from, how they are decoded, kept and split. Knows no network."""
