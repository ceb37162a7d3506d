"""Reading from the web, as a stranger's servers allow: no address of a private network, no endless response."""
