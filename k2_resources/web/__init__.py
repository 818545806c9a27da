"""ASGI applications that stand before a server and refuse requests of other sites' pages (#048)."""
