"""Writers of the reference parts of docs/, checked by tests against the source they are written from."""
