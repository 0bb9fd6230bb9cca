"""Processes that are to be interrupted."""

# A shell starts what runs in its background, and `nohup`, with SIGINT ignored, and children inherit that: a program
# that a test interrupts begins with this.
LISTENS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
