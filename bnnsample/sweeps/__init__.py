"""Many points, each with a folder of its own, on this machine's cores or on a cluster."""
