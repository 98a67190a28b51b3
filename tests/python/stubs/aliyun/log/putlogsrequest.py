"""Sends nothing."""


class PutLogsRequest:
    pass
