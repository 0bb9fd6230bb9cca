"""Do the intervals of ``backtest propose`` hold the truth? Twin chains with the real contracts of Aave V3.6: the tool
sees chain A alone, foretells what one changed parameter would do, and is held against chain B, which had it.

    python -m tests.coverage --pairs 60 --seed 1
"""
