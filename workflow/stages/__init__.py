"""Stage kinds, one file each; the `kind` in the YAML is the module's name."""
