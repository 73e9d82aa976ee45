"""Kernels in C++ for the CPU, compiled at their first use and kept: `build.load`. Without a compiler torch does their work."""
