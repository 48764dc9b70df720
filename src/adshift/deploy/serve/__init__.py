"""`adshift serve`: models as a service for an inspection line. Needs `adshift[serve]`."""
