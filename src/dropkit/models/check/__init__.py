"""Finding the misuse of dropout in a network, by running it."""
