"""Parameters of competition and costs from data, with how well they fit: values in, fits out; no I/O."""
