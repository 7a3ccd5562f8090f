"""How sure a network is: its thinned networks, sampled fast, and what their disagreement says."""
