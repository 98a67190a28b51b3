//! Many operations at once, so many at a time.
