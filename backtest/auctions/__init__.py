"""The auctions that protocols and scenarios share, as rules of their own: prices that fall (``dutch``), bids that rise
(``english``), and where few bidders come to rest (``bidding``). Pure.
"""
