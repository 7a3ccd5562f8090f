"""How much dropout costs here: dropkit beside torch.nn, and beside a copy as the physical limit."""
