"""Evidence for what dropout is said to do, measured on finished runs: co-adaptation, sparsity, an ensemble, weights."""
