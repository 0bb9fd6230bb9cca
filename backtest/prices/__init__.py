"""Prices: what a kind of source computes, oracle facts to canonical prices, venues' prices as proxies. Pure."""
