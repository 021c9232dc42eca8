"""Many items at once: tables of encoded items, and folders of them."""
