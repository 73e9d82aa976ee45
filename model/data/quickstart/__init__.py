"""Make the quickstart's data with real physics codes, in containers that data sets are published in."""
