"""What a run keeps of a replay's outcome: rows of the result tables, and in sentences what its numbers rest on.
Pure.
"""

from backtest.outcome.rows import question_of, tables_of, terms_of
from backtest.outcome.sentences import notes_of

__all__ = ["notes_of", "question_of", "tables_of", "terms_of"]
