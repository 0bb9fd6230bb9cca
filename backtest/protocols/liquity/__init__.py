"""Rules that Liquity V1 and V2 have in common."""
