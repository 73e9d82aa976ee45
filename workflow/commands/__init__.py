"""Subcommands that `workflow.cli` gathers, a file for each group of them."""
