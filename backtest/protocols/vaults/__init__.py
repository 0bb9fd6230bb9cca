"""What Maker (makerdao/dss) and its descendants (reflexer-labs/geb) share: a vault of one collateral that owes a coin
through an accumulator, liquidated whole or in part into an auction.

``math`` rounds, ``rules`` says when a vault is unsafe and what one costs, ``state`` is the book, ``actions`` what calls
do to it, ``ledger`` the canonical rows that a fold makes. Words are dss's: an ilk is a collateral type, an urn's ink
and art are what it locks and its normalised debt.
"""
