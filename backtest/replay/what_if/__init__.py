"""What a scenario changes: parameters, whom they reach, users who act again, interest recomputed."""
