"""Records to HTML: one self-contained page for a run or a study. Knows no torch."""
