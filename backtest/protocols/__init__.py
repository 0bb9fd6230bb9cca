"""Lending protocols: the interface that the engine asks (``interface``), and one folder each."""
