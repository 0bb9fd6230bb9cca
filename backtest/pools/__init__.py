"""Pools that tokens are sold into: their exact rules, and the fold of their logs to canonical tables. Pure; nothing
here knows a lending protocol.
"""
