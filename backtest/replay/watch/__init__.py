"""Who needs a look: accounts that the exact rule has to decide about at a moment."""
