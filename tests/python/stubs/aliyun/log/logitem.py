"""Sends nothing."""


class LogItem:
    pass
