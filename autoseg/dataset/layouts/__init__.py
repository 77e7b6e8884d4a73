"""Ways in which datasets lie on disk: recognised by what is there, never asked for.

Read `recognition` first, which holds the table and opens any of them; then `naming` and
`description`, which they share, and `nnunet_raw`, `msd`, `plain` and `manifest` in any order.
"""
