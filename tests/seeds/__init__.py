"""Whole campaigns in memory's time: the real driver, protocol, journal and fence against a batch system that does its worst.

One seed makes one history: which campaign, what goes wrong and when. `python -m seeds --help` runs any number of them.
"""
