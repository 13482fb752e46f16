"""REST, one file a noun. Each file lists its endpoints in `ROUTES`; `routes.py` joins them."""
