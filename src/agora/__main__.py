"""``python -m agora`` is the command ``agora``."""

from agora.cli import main

main()
