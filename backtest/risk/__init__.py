"""Measures of risk: of losses over many paths, of a market's book at one moment, and tests of the measures; values in,
values out, no I/O.
"""
