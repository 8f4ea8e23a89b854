"""What the account is: its tokens, messages, limits and faults, and what was recorded of them."""
