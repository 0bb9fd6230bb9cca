"""What connects markets, at one moment: collateral that they share, borrowers who are in several, claims of one on
another; and what that does with losses. Pure.

``matrices`` holds the measures of the literature over plain numbers, ``books`` what of exact books goes into them,
``fire_sales`` the static cascade through several markets by the protocols' own rules.
"""
