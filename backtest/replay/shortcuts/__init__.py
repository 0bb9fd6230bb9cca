"""What a replay need not go through: a past in short, quiet stretches, a common start of many scenarios."""
