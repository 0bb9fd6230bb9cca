"""How these contracts write names, addresses and numbers in logs."""

from __future__ import annotations

from typing import Any


def word(text: str) -> bytes:
    """A name as the contracts write it: ASCII at the left of 32 bytes."""
    return text.encode("ascii").ljust(32, b"\0")


def name(data: bytes) -> str:
    """The inverse of ``word``."""
    return data.rstrip(b"\0").decode("ascii", "replace")


def address_text(address: Any) -> str:
    """20 bytes as lower-case 0x text."""
    return f"0x{address.hex()}"


def integer(value: Any) -> int:
    """A number stored as such or, where it may be wide, as 32 bytes."""
    return int.from_bytes(value, "big") if isinstance(value, bytes) else int(value)
