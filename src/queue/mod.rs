//! Work in order of arrival or of importance, done by so many workers.
