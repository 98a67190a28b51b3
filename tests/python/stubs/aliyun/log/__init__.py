"""Sends nothing."""


class LogClient:
    def __init__(self, *args, **kwargs):
        raise RuntimeError("no statistics leave this machine")
