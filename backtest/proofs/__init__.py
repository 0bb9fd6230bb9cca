"""Proofs of accounts: words of storage under a block's hash (``tries``, ``headers``), made (``made``) into a file
(``proof``), checked and valued by the protocol's rules (``checked``). Pure: who reads a node is ``fetch.proofs``, who
writes files the command line.
"""

from backtest.proofs.checked import Checked, accounted, check, clock_of, view_of, word_of
from backtest.proofs.headers import BlockHeader, encoded_header, read_header
from backtest.proofs.made import make
from backtest.proofs.proof import Proof, decoded, encoded
from backtest.proofs.tries import Absent, Nodes, Unproven

__all__ = [
    "Absent",
    "BlockHeader",
    "Checked",
    "Nodes",
    "Proof",
    "Unproven",
    "accounted",
    "check",
    "clock_of",
    "decoded",
    "encoded",
    "encoded_header",
    "make",
    "read_header",
    "view_of",
    "word_of",
]
