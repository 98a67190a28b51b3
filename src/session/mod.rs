//! Sessions that run commands, code and files.
