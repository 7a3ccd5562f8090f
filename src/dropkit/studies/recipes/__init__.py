"""Recipes: functions that return what a table or a figure of a paper is trained from, a file a table."""
