"""A stage kind and an agent for tests of the driver: real jobs, real files, no science."""
