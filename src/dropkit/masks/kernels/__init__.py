"""Kernels: the arithmetic of `dropkit.masks.reference` in C++ for CPUs and in Triton for GPUs, equal bit for bit."""
